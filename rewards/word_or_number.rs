//! Options that are a word or a number.

/// Declares an option that is one word, or a number.
macro_rules! word_or_number {
    ($(#[$doc:meta])* $name:ident { $(#[$word_doc:meta])* $word:ident = $said:literal, $(#[$number_doc:meta])* Value }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $name {
            $(#[$word_doc])* $word,
            $(#[$number_doc])* Value(f64),
        }

        impl $name {
            /// The number, where it is one.
            pub fn number(self) -> Option<f64> {
                match self {
                    $name::$word => None,
                    $name::Value(value) => Some(value),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $name::$word => serializer.serialize_str($said),
                    $name::Value(value) => serializer.serialize_f64(*value),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(untagged)]
                enum Raw {
                    Number(f64),
                    Text(String),
                }
                match Raw::deserialize(deserializer) {
                    Ok(Raw::Number(value)) => Ok($name::Value(value)),
                    Ok(Raw::Text(text)) if text == $said => Ok($name::$word),
                    _ => Err(serde::de::Error::custom(concat!("must be \"", $said, "\" or a number"))),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"anyOf": [{"const": $said}, {"type": "number"}]})
            }
        }
    };
}
pub(crate) use word_or_number;
