//! Whole-system tests of Edgesync
