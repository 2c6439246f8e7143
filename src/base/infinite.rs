//! Numbers that may be infinite, in JSON: null stands for infinity. For serde's `with`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `value`, or null.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Some(*value).filter(|value| value.is_finite()).serialize(serializer)
}

/// A number, or infinity for null.
pub(crate) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}
