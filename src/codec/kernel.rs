//! Which instructions this machine has; asked for once.

use std::sync::OnceLock;

/// Instructions that the codec's inner loops come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// What every machine has.
    Portable,
    /// AVX2 and BMI2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW and VBMI, and GFNI besides: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// What every aarch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The widest of this machine.
    pub(super) fn best() -> Self {
        *Self::available().last().expect("portable is everywhere")
    }

    /// What this machine can run, narrowest first.
    pub(super) fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Kernel>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            #[allow(unused_mut)] // Other processors have one.
            let mut kernels = vec![Self::Portable];
            #[cfg(target_arch = "aarch64")]
            kernels.push(Self::Neon);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
                kernels.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("gfni")
                {
                    kernels.push(Self::Avx512);
                }
            }
            kernels
        })
    }
}
