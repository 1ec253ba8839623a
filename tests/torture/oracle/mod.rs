//! What must be there, by what was written and answered. It is text and offsets alone: nothing here
//! calls the code under test, and an export is compared as the lines that it prints.

mod history;
mod model;

pub use history::{Answered, History, Resolved};
pub use model::{Change, Line, Model, Set};
