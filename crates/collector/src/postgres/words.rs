//! What PostgreSQL's errors mean for who runs the collector.

use pulse_telemetry_http::tls::TlsProblem;
use tokio_postgres::error::{DbError, SqlState};

/// The error in words, with what to do about it where that can be told. Detail and context may repeat values of a row,
/// so of what the server says only the message is told, and not even that where it may.
pub(super) fn of(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let advice = advice(said).map(|advice| format!(": {advice}")).unwrap_or_default();
        let message = if may_repeat_a_value(said.code()) { "the server's log has the message" } else { said.message() };
        return format!("PostgreSQL: {message} ({}){advice}", said.code().code());
    }
    let text = chain(error);
    let advice = if text.contains("server does not support TLS") {
        ": switch it on there (ssl = on), or where nobody else is on the way between, write sslmode=disable in \
         storage.url"
    } else if text.contains("does not allow writes") {
        ": none of the servers of storage.url takes writes now; it is tried again"
    } else {
        ""
    };
    format!("PostgreSQL: {text}{advice}")
}

/// Of data that does not fit (class 22, where it is not about a setting), and of what somebody's own function raises
/// (class P0).
fn may_repeat_a_value(code: &SqlState) -> bool {
    let is_of = |class| code.code().starts_with(class);
    is_of("P0") || (is_of("22") && *code != SqlState::INVALID_PARAMETER_VALUE)
}

/// Whether another server, or the same one later, may do what this one does not.
pub(super) fn calls_for_a_new_connection(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

fn advice(said: &DbError) -> Option<&'static str> {
    let code = said.code();
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Some(
            "it is a standby, or set to read only; the collector goes on as soon as it takes writes, and with several \
             hosts and target_session_attrs=read-write in storage.url it finds the one that does",
        )
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        Some("the collector's role must own its tables, and report and export need SELECT on them")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        Some("make it with CREATE DATABASE, or name another one in storage.url")
    } else if *code == SqlState::INVALID_PASSWORD {
        Some("look at the user in storage.url, and at the password there or in storage.password_file")
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION && said.message().contains("no encryption") {
        Some("where the server asks for TLS, write sslmode=verify-full in storage.url")
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        Some("a collector holds 4 connections at most; raise max_connections, or put a pooler between")
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        Some("it starts, stops or recovers; it is tried again")
    } else {
        None
    }
}

/// An error with its causes; of TLS, what it comes to.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(problem) = TlsProblem::among(error) {
        let named = "; storage.ca_file can name the authority that issued it, or this very certificate";
        return format!("{problem}{}", if problem.is_unknown_issuer() { named } else { "" });
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
