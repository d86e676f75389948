//! What the fuzz targets share. Each module of [`targets`] holds the properties of one format; the files in `fuzz_targets`
//! only hand them to libFuzzer. `docs/fuzzing.md` says how to run them.

pub mod budget;
pub mod committee;
pub mod peer;
pub mod targets;
