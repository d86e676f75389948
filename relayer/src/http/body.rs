//! Reading bodies: every field has a form, and a stable label if it does not have it.

use alloy_primitives::{Address, Bytes, U256};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;

use super::Failure;

/// The body, or why there is none.
pub(super) fn json<B>(body: Result<Json<B>, JsonRejection>) -> Result<B, Failure> {
    body.map(|Json(body)| body).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than is admitted")
        }
        _ => Failure::bad_request("malformed_json", rejection.body_text()),
    })
}

/// Bytes in hex, with or without 0x.
pub(super) fn bytes(text: &str, label: &'static str) -> Result<Bytes, Failure> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map(Bytes::from).map_err(|_| Failure::bad_request(label, "not hex"))
}

/// 20 bytes in hex, with or without 0x.
pub(super) fn address(text: &str) -> Result<Address, Failure> {
    let bytes = bytes(text, "malformed_address")?;
    Address::try_from(bytes.as_ref())
        .map_err(|_| Failure::bad_request("malformed_address", "an address is 20 bytes in hex"))
}

/// A `uint256` as decimal text.
pub(super) fn number(text: &str) -> Result<U256, Failure> {
    let digits = !text.is_empty() && text.len() <= 78 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| U256::from_str_radix(text, 10).ok())
        .flatten()
        .ok_or_else(|| Failure::bad_request("malformed_number", "a number is decimal text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_exact() {
        assert_eq!(bytes("0x01ff", "l").unwrap(), bytes("01FF", "l").unwrap());
        assert_eq!(bytes("", "l").unwrap().len(), 0);
        for text in ["0x1", "0x0x00", "zz", " 00", "é"] {
            assert_eq!(bytes(text, "malformed_x").unwrap_err().label, "malformed_x", "{text}");
        }
        assert!(address(&"11".repeat(20)).is_ok());
        for text in ["", "0x11", &"11".repeat(21)] {
            assert_eq!(address(text).unwrap_err().label, "malformed_address");
        }
        assert_eq!(number("18446744073709551616").unwrap(), U256::from(1u128 << 64));
        for text in ["", "-1", "+1", "1e3", "0x1", " 1", "1.0", &"9".repeat(78), &"0".repeat(79)] {
            assert_eq!(number(text).unwrap_err().label, "malformed_number", "{text}");
        }
    }
}
