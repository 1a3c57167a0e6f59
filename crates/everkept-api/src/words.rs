//! Enumerations that are one word on the wire, each beside the core's own.
//!
//! Never: a variant that the core does not have, or a core variant without a word; both break the build.

// Words are `tt`: a `literal` reaches the document's generator wrapped up, and it would write the variants' own names.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:tt),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),*
        }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $($word => Ok($name::$variant),)*
                    _ => Err(()),
                }
            }
        }

        impl From<everkept_core::$name> for $name {
            fn from(core: everkept_core::$name) -> Self {
                match core { $(everkept_core::$name::$variant => $name::$variant),* }
            }
        }

        impl From<$name> for everkept_core::$name {
            fn from(wire: $name) -> Self {
                match wire { $($name::$variant => everkept_core::$name::$variant),* }
            }
        }
    )*};
}

pub(crate) use words;
