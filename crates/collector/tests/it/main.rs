//! The tests of the collector, one module a subject. A test's name is the promise that it keeps.

mod collector_addresses;
mod collector_adversary;
mod collector_directory;
mod collector_duplicates;
mod collector_export;
mod collector_forget;
mod collector_ingest;
mod collector_kills;
mod collector_load;
mod collector_numbers;
mod collector_postgres;
mod collector_publisher;
mod collector_purge;
mod collector_rewrite;
mod collector_site;
mod collector_storage;
mod collector_system;
mod counting;
mod virtual_clock;
