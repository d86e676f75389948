//! Final receipts.
