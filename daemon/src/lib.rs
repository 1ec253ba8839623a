//! The edge daemon of Edgesync
