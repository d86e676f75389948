//! Logs, and traces that join what relayers and parties do for one request.
