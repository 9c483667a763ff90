//! What every reward's options share: a name, a weight, bounds; and the macro that declares a reward's section.

use crate::weight::Weight;

/// What every reward has: how it is called, what it weighs, where it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Its name in metrics and files.
    pub name: &'a str,
    /// Its weight in the total.
    pub weight: &'a Weight,
    /// Lower and upper bound of its value.
    pub clip: Option<[f64; 2]>,
}

impl Common<'_> {
    /// The first of the three out of bounds, as `key: rule, got value`.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.weight.validate().map_err(|e| format!("weight: {e}"))?;
        check_bounds(self.clip)?;
        if matches!(self.name, "" | "total") || self.name.contains('/') {
            return Err(format!(
                "name: must not be empty, \"total\" or hold a slash, got {:?}",
                self.name
            ));
        }
        Ok(())
    }
}

/// Whether bounds called `clip` can be kept.
pub(crate) fn check_bounds(clip: Option<[f64; 2]>) -> Result<(), String> {
    match clip {
        Some([low, high]) if low > high || low.is_nan() || high.is_nan() => Err(format!(
            "clip: the lower bound must not exceed the upper, got [{low}, {high}]"
        )),
        _ => Ok(()),
    }
}

/// A value within bounds.
pub(crate) fn clip(value: f64, range: Option<[f64; 2]>) -> f64 {
    range.map_or(value, |[low, high]| value.clamp(low, high))
}

/// Whether pixels of a longer side, where they are given, can be compared at.
pub(crate) fn check_size(size: Option<u32>) -> Result<(), String> {
    match size {
        Some(side) if !(1..=4096).contains(&side) => Err("size: must be from 1 to 4096".into()),
        _ => Ok(()),
    }
}

/// Declares a reward's options: the three every reward has, and its own with their defaults.
macro_rules! reward_options {
    ($(#[$doc:meta])* $name:ident (clip $clip:expr) { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// The part's name in metrics and files; its type when absent.
            pub name: Option<String>,
            /// Its weight in the total: a number, or a schedule `[[step, weight], ..]` joined by straight lines.
            pub weight: $crate::weight::Weight,
            /// Lower and upper bound the value is cut to, before it is weighted; null for none.
            pub clip: Option<[f64; 2]>,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { name: None, weight: Default::default(), clip: $clip, $($field: $default,)* }
            }
        }
    };
}
pub(crate) use reward_options;
