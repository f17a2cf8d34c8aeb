//! The instruction sets of the machine, and loops compiled once for each of them.
#![allow(unsafe_code)]

/// An instruction set that loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// The target's own minimum.
    Base,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The one with the widest registers that this machine has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Base
    }

    /// Every instruction set that this machine has, narrowest first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let known = [Self::Base, Self::Avx2, Self::Avx512];
        #[cfg(not(target_arch = "x86_64"))]
        let known = [Self::Base];
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
                    // SAFETY: as above.
                    $crate::sys::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::sys::isa::Isa::Base => {}
                }
            }
            let _ = isa;
            $body($($arg),*);
        }
    };
}

pub(crate) use for_isas;
