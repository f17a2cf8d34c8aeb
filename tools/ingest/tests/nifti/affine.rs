//! Affines of headers, to the last bit. The expected bits were printed by nibabel 5.4.2 on x86-64.

use voxquarry::Affine;

use crate::build::{Folder, Nifti, read_error, read_ok};

fn affine(file: &Nifti) -> Affine {
    let folder = Folder::new();
    read_ok(&folder.write("a.nii", &file.single())).0.affine
}

/// A file with a qform of this quaternion and these steps, and a fixed offset.
fn turned(version: u8, big: bool, quaternion: [f64; 3], pixdim: [f64; 4]) -> Nifti {
    let mut file = Nifti::new(version, big, 4, &[4, 3, 2]).with("qform_code", 0, 1.0);
    for (field, value) in ["quatern_b", "quatern_c", "quatern_d"].iter().zip(quaternion) {
        file.set(field, 0, value);
    }
    for (field, value) in ["qoffset_x", "qoffset_y", "qoffset_z"].iter().zip([10.5, -20.25, 3.1]) {
        file.set(field, 0, value);
    }
    for (i, step) in pixdim.into_iter().enumerate() {
        file.set("pixdim", i, step);
    }
    file
}

/// Version, quaternion, qfac and steps, and the bits of the first three rows.
type Turn = (u8, [f64; 3], [f64; 4], [u64; 12]);

#[test]
fn qforms_equal_nibabels_bit_for_bit() {
    // As a text would round it.
    #[allow(clippy::approx_constant)]
    const ROUNDED: f64 = 0.707_106_78;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    #[rustfmt::skip]
    let cases: [Turn; 5] = [
        (1, [0.1, -0.2, 0.3], [-1.0, 0.7, 1.3, 2.9], [
        0x3fe0_9374_b168_72b0, 0xbfe8_cf9a_87f7_72c0, 0x3fec_db0d_600f_baff, 0x4025_0000_0000_0000,
        0x3fd7_22af_458d_8e75, 0x3ff0_a3d6_facc_ccce, 0x3fec_590b_e330_d34b, 0xc034_4000_0000_0000,
        0x3fd3_4e6b_4562_bb29, 0x3fb5_ca09_2a08_36c9, 0xc004_e147_b870_a3d6, 0x4008_cccc_c000_0000,
        ]),
        (2, [0.1, -0.2, 0.3], [-1.0, 0.7, 1.3, 2.9], [
        0x3fe0_9374_bc6a_7efa, 0xbfe8_cf9a_88ec_4418, 0x3fec_db0d_4f8a_8915, 0x4025_0000_0000_0000,
        0x3fd7_22af_3e8a_ce9b, 0x3ff0_a3d7_0a3d_70a4, 0x3fec_590b_c67d_9676, 0xc034_4000_0000_0000,
        0x3fd3_4e6b_45af_2405, 0x3fb5_ca09_51d2_33e1, 0xc004_e147_ae14_7ae1, 0x4008_cccc_cccc_cccd,
        ]),
        // A qfac of 0 means 1, a negative step its absolute value, a step of 0 means 1. The
        // quaternion is almost half a turn.
        (2, [0.6, 0.0, 0.8 - 1e-9], [0.0, 0.7, -1.3, 0.0], [
        0xbfc9_1687_2632_9856, 0xbf15_cf75_12e6_febe, 0x3fee_b851_eae0_317a, 0x4025_0000_0000_0000,
        0x3f07_7cf4_3bbd_afe0, 0xbff4_cccc_cbae_ed50, 0xbf09_2a73_651b_7ca7, 0xc034_4000_0000_0000,
        0x3fe5_8106_2469_bc3b, 0x3f10_5b97_ce85_1106, 0x3fd1_eb85_1eb8_51ec, 0x4008_cccc_cccc_cccd,
        ]),
        // Within the threshold of the header's precision, so that w is 0.
        (1, [ROUNDED, ROUNDED, 0.0], [1.0, 0.7, 1.3, 2.9], [
        0, 0x3ff4_cccc_c000_0000, 0, 0x4025_0000_0000_0000,
        0x3fe6_6666_6000_0000, 0, 0, 0xc034_4000_0000_0000,
        0, 0, 0xc007_3333_4000_0000, 0x4008_cccc_c000_0000,
        ]),
        (2, [half, -half, 1e-9], [1.0, 0.7, 1.3, 2.9], [
        0xbc29_3333_3333_3333, 0xbff4_cccc_cccc_cccd, 0x3e31_9d56_9d9a_ee1d, 0x4025_0000_0000_0000,
        0xbfe6_6666_6666_6666, 0xbc37_6666_6666_6667, 0xbe31_9d56_9d9a_ee1d, 0xc034_4000_0000_0000,
        0x3e11_01d8_0aed_dd13, 0xbe1f_95b5_cb27_7600, 0xc007_3333_3333_3333, 0x4008_cccc_cccc_cccd,
        ]),
    ];
    for (version, quaternion, pixdim, expected) in cases {
        for big in [false, true] {
            let found = affine(&turned(version, big, quaternion, pixdim));
            let bits: Vec<u64> = found.0.iter().flatten().take(12).map(|v| v.to_bits()).collect();
            assert_eq!(bits, expected, "{quaternion:?} {pixdim:?}");
        }
    }
}

#[test]
fn sform_precedes_qform_precedes_steps() {
    let rows = [[0.0, 2.0, 0.0, -7.5], [-3.0, 0.0, 0.0, 8.0], [0.0, 0.0, 0.5, 9.0]];
    let expected = Affine([rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]]);
    let turn =
        Affine([[0.7, 0., 0., 10.5], [0., -1.5, 0., -20.25], [0., 0., -2.5, 3.], [0., 0., 0., 1.]]);
    let steps =
        Affine([[-0.7, 0., 0., 1.05], [0., 1.5, 0., -1.5], [0., 0., 2.5, -1.25], [0., 0., 0., 1.]]);
    // Codes outside the standard count as 0.
    for sform in [-1, 0, 1, 4, 5, 6, 300] {
        for qform in [-1, 0, 1, 5, 6] {
            let mut file = turned(2, sform % 2 == 0, [1.0, 0.0, 0.0], [1.0, 0.7, 1.5, 2.5]);
            file.set("qoffset_z", 0, 3.0);
            file.set("sform_code", 0, f64::from(sform));
            file.set("qform_code", 0, f64::from(qform));
            for (field, row) in ["srow_x", "srow_y", "srow_z"].iter().zip(rows) {
                (0..4).for_each(|i| file.set(field, i, row[i]));
            }
            let expected = match (sform, qform) {
                (1..=5, _) => expected,
                (_, 1..=5) => turn,
                _ => steps,
            };
            let found = affine(&file);
            let close = found
                .0
                .iter()
                .flatten()
                .zip(expected.0.iter().flatten())
                .all(|(a, b)| (a - b).abs() < 1e-15);
            assert!(close, "{sform} {qform}: {found:?}");
        }
    }
}

#[test]
fn missing_axes_step_by_one() {
    for (dims, expected) in [
        (&[5i64][..], [[-2., 0., 0., 4.], [0., 1., 0., 0.], [0., 0., 1., 0.]]),
        (&[5, 4][..], [[-2., 0., 0., 4.], [0., 3., 0., -4.5], [0., 0., 1., 0.]]),
        (&[5, 4, 1][..], [[-2., 0., 0., 4.], [0., 3., 0., -4.5], [0., 0., 4., 0.]]),
    ] {
        let mut file = Nifti::new(1, true, 4, dims);
        for (i, step) in [1.0, -2.0, 3.0, 4.0].into_iter().enumerate() {
            file.set("pixdim", i, step);
        }
        assert_eq!(affine(&file).0[..3], expected);
    }
    // A long vector of FreeSurfer: nibabel centres by the stored extent of −1.
    let long = Nifti::new(1, false, 2, &[60, 1, 1]).with("dim", 1, -1.0).with("glmin", 0, 60.0);
    assert_eq!(affine(&long).0[0], [-1.0, 0.0, 0.0, -1.0]);
}

#[test]
fn invalid_affines_are_refused_with_their_field() {
    let folder = Folder::new();
    let say = |file: &Nifti| read_error(&folder.write("a.nii", &file.single()));
    let sform = Nifti::new(1, false, 4, &[4, 3, 2]).with("sform_code", 0, 1.0);
    for (file, words) in [
        (sform.clone(), ["singular", "sform"]),
        (sform.with("srow_y", 2, f64::NAN), ["not finite", "sform"]),
        (turned(1, true, [0.9, 0.9, 0.0], [1.0; 4]), ["longer than 1", "quaternion"]),
        (turned(2, true, [f64::NAN, 0.0, 0.0], [1.0; 4]), ["not finite", "qform"]),
        (turned(2, true, [0.1, 0.0, 0.0], [1.0, f64::INFINITY, 1.0, 1.0]), ["not finite", "qform"]),
        (turned(2, true, [1e300, 0.0, 0.0], [1.0; 4]), ["longer than 1", "quaternion"]),
        (Nifti::new(2, true, 4, &[4, 3, 2]).with("pixdim", 2, f64::NAN), ["not finite", "pixdim"]),
    ] {
        let message = say(&file);
        assert!(
            words.iter().all(|w| message.contains(w)) && message.contains("correct"),
            "{message}"
        );
    }
    // Extreme but valid: nothing overflows.
    affine(&turned(2, false, [1e-300, 0.0, 1e-310], [1.0, 1e-20, 1e-20, 1e-20]));
}
