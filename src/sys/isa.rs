//! The instruction sets of the machine, and loops compiled once for each of them.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::sync::OnceLock;

/// An instruction set that kernels are written for and loops are compiled for; each includes the
/// ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// The target's own minimum.
    Base,
    /// NEON, which is part of aarch64's minimum: only written kernels differ from [`Isa::Base`].
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 and BMI2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 BW and VBMI, and GFNI: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni,
}

impl Isa {
    /// The one with the widest registers that this machine has.
    #[inline]
    pub(crate) fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
                if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512dq") {
                    return Self::Avx2;
                }
                let has_gfni = is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("gfni");
                return if has_gfni { Self::Avx512Gfni } else { Self::Avx512 };
            }
            #[cfg(target_arch = "aarch64")]
            if is_aarch64_feature_detected!("neon") {
                return Self::Neon;
            }
            Self::Base
        })
    }

    /// Every instruction set that this machine has, narrowest first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let known = [
            Self::Base,
            #[cfg(target_arch = "aarch64")]
            Self::Neon,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Gfni,
        ];
        let last = known.iter().position(|&isa| isa == Self::detect()).unwrap();
        known[..=last].to_vec()
    }
}

/// Defines `name` as `body` compiled once for each [`Isa`]; the compiler vectorises the loops of
/// `body` for each of them. A test of the module that uses this runs all of them.
macro_rules! for_isas {
    (
        $(#[$doc:meta])*
        $name:ident<$($generic:ident: $bound:path),*>($($arg:ident: $t:ty),*), $body:ident
    ) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        pub(super) fn $name<$($generic: $bound),*>(isa: $crate::sys::isa::Isa, $($arg: $t),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2<$($generic: $bound),*>($($arg: $t),*) {
                    $body($($arg),*);
                }
                #[target_feature(enable = "avx512f,avx512dq")]
                fn avx512<$($generic: $bound),*>($($arg: $t),*) {
                    $body($($arg),*);
                }
                match isa {
                    // SAFETY: `Isa::detect`, the only source of values, asked the machine for
                    // these features; the tests of the callers run every value it has.
                    $crate::sys::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::sys::isa::Isa::Avx512 | $crate::sys::isa::Isa::Avx512Gfni => {
                        // SAFETY: as above.
                        return unsafe { avx512($($arg),*) };
                    }
                    $crate::sys::isa::Isa::Base => {}
                }
            }
            let _ = isa;
            $body($($arg),*);
        }
    };
}

pub(crate) use for_isas;
