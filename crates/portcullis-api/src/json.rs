//! JSON read strictly: what two readers could understand differently is refused.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may stand in each other.
const DEPTH_LIMIT: usize = 8;

/// A member of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidMember {
    /// Where it stands: a JSON Pointer (RFC 6901), or the name of a query parameter.
    pub pointer: String,
    /// What is wrong with it, and what is accepted.
    pub detail: String,
}

impl InvalidMember {
    /// Says what is wrong with a member.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON at all.
    #[error("the body is not JSON: {0}")]
    Malformed(String),
    /// It is JSON, and some members are wrong: all of them are named.
    #[error("{}", sentence(.0))]
    Invalid(Vec<InvalidMember>),
}

fn sentence(members: &[InvalidMember]) -> String {
    let one = |member: &InvalidMember| match member.pointer.as_str() {
        "" => format!("the body {}", member.detail),
        pointer => format!("`{pointer}` {}", member.detail),
    };
    members.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Reads a body that must be one JSON object (RFC 8259) without a member that is named twice.
pub(crate) fn read_object(body: &[u8]) -> Result<Map<String, Value>, ReadError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| ReadError::Malformed(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    let repeated = RefCell::new(Vec::new());
    let seed = Strict { pointer: String::new(), depth: 0, repeated: &repeated };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| ReadError::Malformed(error.to_string()))?;
    let mut wrong = repeated.into_inner();
    match value {
        Value::Object(object) if wrong.is_empty() => Ok(object),
        Value::Object(_) => Err(ReadError::Invalid(wrong)),
        other => {
            wrong.insert(0, InvalidMember::new("", format!("is {}; an object is accepted", kind(&other))));
            Err(ReadError::Invalid(wrong))
        }
    }
}

/// Names the kind of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Returns the pointer of a member of what `pointer` names. See RFC 6901 §3 for the escapes.
pub(crate) fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Reads a value into a tree and gathers the pointers of members that are named twice, which serde_json
/// would resolve to the last one while another reader takes the first.
struct Strict<'a> {
    pointer: String,
    depth: usize,
    repeated: &'a RefCell<Vec<InvalidMember>>,
}

impl Strict<'_> {
    fn within(&self, name: &str) -> Self {
        Self { pointer: member(&self.pointer, name), depth: self.depth + 1, repeated: self.repeated }
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < DEPTH_LIMIT {
            return Ok(());
        }
        Err(E::custom(format_args!("arrays and objects stand more than {DEPTH_LIMIT} deep in each other")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut array = Vec::new();
        while let Some(value) = elements.next_element_seed(self.within(&array.len().to_string()))? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.within(&name))?;
            if object.contains_key(&name) {
                let pointer = member(&self.pointer, &name);
                self.repeated.borrow_mut().push(InvalidMember::new(pointer, "stands there more than once"));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &[u8], wanted: &str) {
        assert_eq!(read_object(body).unwrap_err().to_string(), wanted, "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn a_plain_object_is_read() {
        let object = read_object(br#" {"a": [1, -2, 0.5, "x", true, null], "b": {"c": "\u00e4"}} "#).unwrap();
        assert_eq!(
            Value::Object(object),
            serde_json::json!({"a": [1, -2, 0.5, "x", true, null], "b": {"c": "ä"}})
        );
    }

    #[test]
    fn members_that_stand_twice_are_named_wherever_they_are() {
        check(br#"{"a":1,"a":2}"#, "`/a` stands there more than once");
        check(
            br#"{"x":[{"y/z":1,"y/z":1}],"~":1,"\u007e":2}"#,
            "`/x/0/y~1z` stands there more than once; `/~0` stands there more than once",
        );
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        check(b"[]", "the body is an array; an object is accepted");
        check(b"null", "the body is null; an object is accepted");
        check(b"", "the body is not JSON: EOF while parsing a value at line 1 column 0");
        check(b"{} {}", "the body is not JSON: trailing characters at line 1 column 4");
        check(b"{\"a\":\"\xff\"}", "the body is not JSON: byte 6 is not UTF-8");
        check(br#"{"a":1e999}"#, "the body is not JSON: number out of range at line 1 column 10");
    }

    #[test]
    fn depth_is_bounded_whatever_the_length() {
        let body = [b"{\"a\":".as_slice(), &b"[".repeat(100_000)].concat();
        assert!(
            matches!(read_object(&body), Err(ReadError::Malformed(detail)) if detail.contains("more than 8 deep"))
        );
    }
}
