//! The benchmarks of Edgesync
