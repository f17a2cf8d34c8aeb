//! Plain loops compiled for the widest registers of the machine: the compiler vectorises them, whatever processor it builds for.
#![allow(unsafe_code)]

/// Instructions that the loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Base,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest that this machine has.
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

    /// Every level that this machine has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let known = [Self::Base, Self::Avx2, Self::Avx512];
        #[cfg(not(target_arch = "x86_64"))]
        let known = [Self::Base];
        let last = known.iter().position(|&level| level == Self::detect()).unwrap();
        known[..=last].to_vec()
    }
}

/// Defines `name` as `body`, compiled once for each level; a test of its module runs them all.
macro_rules! for_levels {
    ($(#[$doc:meta])* $name:ident<$($generic:ident: $bound:path),*>($($arg:ident: $t:ty),*), $body:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        pub(super) fn $name<$($generic: $bound),*>(level: $crate::level::Level, $($arg: $t),*) {
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
                match level {
                    // SAFETY: `Level::detect`, the only maker of levels, asked the machine for what they name.
                    $crate::level::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::level::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::level::Level::Base => {}
                }
            }
            let _ = level;
            $body($($arg),*);
        }
    };
}

pub(crate) use for_levels;
