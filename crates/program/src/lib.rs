//! What a program that runs in production does whatever its job is.
//!
//! ```text
//!   argv ─┐
//!   env  ─┼─► settings ─► (the program's own flags) ─► run ─► work, until a signal and then the grace period
//!   file ─┘                                            │
//!                     logs ◄── log                     └─► probes: /healthz /readyz /metrics
//! ```
//!
//! In: arguments, environment, a file. Out: a checked set of flags, logs on stderr, an exit code. Used by the programs
//! `konnector` and `kube-bind-backend`, so that both are configured, probed and stopped alike. Nothing here knows what
//! they do, and no web framework is linked for it.

pub mod listen;
pub mod log;
pub mod probes;
pub mod run;
pub mod settings;
pub mod value;

pub use log::Logs;
pub use probes::{Check, Probed};
pub use run::run;
pub use settings::{Program, Refused, Secret};
pub use value::Listen;
