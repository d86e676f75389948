// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Type of an encrypted value
/// @dev ABI-encoded as `uint8`, so selectors equal those of the ecosystem, whose `FheType` is an enum with the same numbers.
/// A user type instead of an enum: an unsupported number reaches our checks and gets an error with its value.
type FheType is uint8;

using {feq as ==, fne as !=} for FheType global;

/// @dev Equality of two types.
function feq(FheType a, FheType b) pure returns (bool) {
    return FheType.unwrap(a) == FheType.unwrap(b);
}

/// @dev Inequality of two types.
function fne(FheType a, FheType b) pure returns (bool) {
    return FheType.unwrap(a) != FheType.unwrap(b);
}
