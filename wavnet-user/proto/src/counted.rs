//! Enums of what is counted: each variant is one counter, and one value of a metric's label.

/// An enum of what is counted: a label and a sentence for each, and a list of all.
macro_rules! counted {
    ($(#[doc = $about:literal])+ $enum:ident: $($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum $enum { $($(#[doc = $doc])+ $name,)+ }

        impl $enum {
            /// All of them, in order.
            pub const ALL: &'static [$enum] = &[$($enum::$name,)+];

            /// The value of the metric's label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $($enum::$name => $label,)+ }
            }

            /// What it means, in a sentence, for people.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $($enum::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}
pub(crate) use counted;

/// How often each of `N` things has happened; they have the numbers that such an enum gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Counts<N> {
        Counts([0; N])
    }
}

impl<const N: usize> Counts<N> {
    /// Once more. True if it is the first time.
    pub(crate) fn count(&mut self, what: usize) -> bool {
        let Some(counter) = self.0.get_mut(what) else { return false };
        *counter += 1;
        *counter == 1
    }

    /// How often.
    pub(crate) fn of(&self, what: usize) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
