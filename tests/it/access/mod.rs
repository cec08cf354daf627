//! Who may do what, from outside: keys and their file, what is open without keys, TLS, the listeners, the audit.

mod audit;
mod audit_crash;
mod certificates;
mod keys;
mod open;
mod page;
mod tls;
pub mod world;
