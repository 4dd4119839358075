//! Enums that are stored and sent as text.
//!
//! A value written by a newer version must not make a whole row unreadable, so each of these
//! enums keeps text it does not know in its last variant and gives it back unchanged.

/// Defines an enum whose variants have one text form each, plus a variant for text of a newer version.
macro_rules! text_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
            /// Text this version does not know: written by a newer one, kept as it is.
            Unknown(Box<str>),
        }

        impl $name {
            /// Every value this version knows, in declaration order.
            pub const KNOWN: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The text form, as stored and sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $text, )+
                    Self::Unknown(text) => text,
                }
            }

            /// Reads the text form; text this version does not know becomes [`Self::Unknown`].
            #[must_use]
            pub fn from_stored(text: &str) -> Self {
                match text {
                    $( $text => Self::$variant, )+
                    other => Self::Unknown(other.into()),
                }
            }

            /// Reads the text form as input: unknown text is refused with the values to choose from.
            pub fn parse(field: &'static str, text: &str) -> $crate::Result<Self> {
                match Self::from_stored(text) {
                    Self::Unknown(_) => Err($crate::Error::invalid(
                        field,
                        format!(
                            "{text:?} is not one of {}",
                            [ $( $text ),+ ].join(", ")
                        ),
                    )),
                    known => Ok(known),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok(Self::from_stored(&text))
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            /// Any text: a newer version may write what this one does not know.
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::openapi::text(&[ $( $text ),+ ])
            }
        }
    };
}

pub(crate) use text_enum;
