//! The thin loop around the engine.

mod handle;

pub use handle::{Command, Gone, Handle, NoPreview, Preview, ResetAnswer, SwitchAnswer};
