//! `run`: puts the parts together.

use tokio::net::signal_placeholder;
