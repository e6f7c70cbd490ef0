//! Closed sets of label values: counters, access log and documentation say the same words because there is one list.

/// An enum whose values have labels, with `ALL` in the order of the discriminants and `label`.
#[macro_export]
macro_rules! label_set {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $label:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        $visibility enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the discriminants.
            $visibility const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// The label value.
            $visibility fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    label_set! {
        /// Of the test.
        enum Colour {
            /// As blood.
            Red = "red",
            /// As the sky.
            Blue = "blue",
        }
    }

    #[test]
    fn values_are_at_their_discriminants_and_have_their_labels() {
        assert!(Colour::ALL.iter().enumerate().all(|(position, colour)| position == *colour as usize));
        assert_eq!(Colour::ALL.map(Colour::label), ["red", "blue"]);
    }
}
