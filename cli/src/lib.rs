//! The command of Edgesync's operators, and its demo
