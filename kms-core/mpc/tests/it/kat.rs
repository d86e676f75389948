//! Known-answer vectors under `kat/`. `KMS_UPDATE_KAT=1` rewrites them.
