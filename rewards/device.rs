//! What a configuration calls a device; whether one answers is for those who compute on it to find out.

use std::fmt;
use std::str::FromStr;

/// A device as configurations and commands name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `auto`: left to the circumstances.
    #[default]
    Auto,
    /// `cpu`.
    Cpu,
    /// `cuda`, whichever GPU is this process's, or `cuda:N`.
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let numbered = || name.strip_prefix("cuda:")?.parse().ok();
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            _ => numbered()
                .map(|index| Self::Cuda(Some(index)))
                .ok_or_else(|| format!("device: must be auto, cpu, cuda or cuda:N, got `{name}`")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["auto", "cpu", "cuda", "cuda:0", "cuda:12"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let told = name.parse::<DeviceChoice>().unwrap_err();
            assert!(told.ends_with(&format!("got `{name}`")), "{told}");
        }
    }
}
