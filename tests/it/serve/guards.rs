//! Who is answered: host, origin, token.

use pulse_telemetry::daemon::Handle;
use pulse_telemetry::serve::{Listen, Listener, Server};
use pulse_telemetry_http::host::Host;
use pulse_telemetry_http::server::{ServeError, ServeSettings};
use serde_json::json;

use super::{Daemon, METHODS, TOKEN, app, post, start, start_at, start_guarded, switch};

/// Addresses, and the names that are this server's own.
const OWN_HOSTS: [&str; 24] = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost:7656",
    "localhost.:7656",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.8.9.10",
    "[::1]",
    "[::1]:7656",
    "[0:0::1]",
    "pulse.lan",
    "PULSE.lan.:443",
    "[::ffff:127.0.0.1]:7656",
    "[::ffff:192.0.2.7]",
    "192.0.2.7",
    "192.0.2.8:7656",
    "0.0.0.0",
    "[::]",
    "[fd00::5]:80",
    "[fd00::6]",
    "[::ffff:10.42.0.7]:7656",
    "[::ffff:a2a:7]",
    "[fe80::1%eth0]:7656",
];

/// What is neither, or no host at all.
const FOREIGN_HOSTS: [&str; 28] = [
    "evil.example",
    "evil.example:7656",
    "evil.example.",
    "EVIL.example",
    "localhost.evil.example",
    "evil.localhost",
    "localhost..",
    "127.0.0.1.evil.example",
    "127.1",
    "0x7f.0.0.1",
    "[::1].evil.example",
    "[::1]evil.example",
    "[evil.example]",
    "192.0.2.7.evil.example",
    "192.0.2.300",
    "localhost:99999",
    "[::1",
    "::1",
    "user@localhost",
    "localhost@evil.example",
    "localhost:7656:1",
    "localhost:x",
    "localhost evil.example",
    "localhost,evil.example",
    "pulse.lan.evil.example",
    "",
    ":7656",
    ".",
];

#[tokio::test]
async fn only_addresses_and_this_servers_own_names_are_answered() {
    let settings = ServeSettings { allowed_hosts: hosts(&["Pulse.LAN.", "fd00::5"]), token: None };
    let server = start_guarded(settings).await;
    for host in OWN_HOSTS {
        let answer = server.ask(&format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in FOREIGN_HOSTS {
        for path in ["/", "/api/v1/status", "/metrics", "/nothing", "/healthz/", "/readyz/../metrics"] {
            let answer = server.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!((answer.status, &answer.json()["error"]), (421, &json!("host_not_allowed")), "{host:?}");
            assert!(answer.text().contains("serve.allowed_hosts"));
        }
    }
}

#[tokio::test]
async fn whoever_asks_by_an_address_is_answered_on_every_bind_and_data_needs_the_token() {
    for bind in ["0.0.0.0:0", "[::]:0", "127.0.0.1:0"] {
        let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
        let server = start_at(bind, settings).await;
        for host in ["10.42.0.7:7656", "10.42.0.7", "[2001:db8::7]:7656", "[::ffff:10.42.0.7]", "0.0.0.0:80"] {
            for (method, path) in [("GET", "/metrics"), ("HEAD", "/metrics"), ("GET", "/api/v1/status")] {
                let ask = |target: &str, token: &str| {
                    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Token: {token}\r\n\r\n")
                };
                for target in [path.to_owned(), format!("http://{host}{path}")] {
                    assert_eq!(server.ask(&ask(&target, TOKEN)).await.status, 200, "{bind} {method} {target} {host}");
                    assert_eq!(server.ask(&ask(&target, "wrong")).await.status, 401, "{bind} {method} {target} {host}");
                }
            }
        }
    }
}

#[tokio::test]
async fn health_is_answered_under_any_host_and_to_http_1_0_without_one() {
    let server = start_at("0.0.0.0:0", ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    for path in ["/healthz", "/readyz"] {
        for method in ["GET", "HEAD"] {
            for host in
                ["pulse-telemetry.monitoring.svc:7656", "balancer", "evil.example", "10.42.0.7", "", "a b", "\u{e9}"]
            {
                let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                assert_eq!(answer.status, 200, "{method} {path} {host:?}");
                assert!(answer.body.is_empty() || answer.text().len() < 40, "there is nothing to see");
            }
            for request in [
                format!("{method} {path} HTTP/1.0\r\n\r\n"),
                format!("{method} http://10.42.0.7:7656{path} HTTP/1.0\r\n\r\n"),
                format!("{method} http://10.42.0.7:7656{path} HTTP/1.1\r\nHost: 10.42.0.7:7656\r\n\r\n"),
                format!("{method} {path}?probe=1 HTTP/1.0\r\nHost: balancer\r\n\r\n"),
            ] {
                assert_eq!(server.ask(&request).await.status, 200, "{request}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_one_host_is_refused() {
    let server = start(Daemon::default()).await;
    for request in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /metrics HTTP/1.0\r\n\r\n",
        "GET /api/v1/status HTTP/1.0\r\n\r\n",
        "GET http://localhost/api/v1/status HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ] {
        assert_eq!(server.ask(request).await.status, 400, "{request}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_must_name_this_server_too() {
    let server = start(Daemon::default()).await;
    for (target, status) in [
        ("http://localhost:7656/api/v1/status", 200),
        ("http://10.42.0.7/api/v1/status", 200),
        ("http://evil.example/api/v1/status", 421),
        ("http://localhost@evil.example/api/v1/status", 421),
    ] {
        let answer = server.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{target}");
    }
    let answer = server.ask("GET http://localhost/api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(answer.status, 421);
}

#[tokio::test]
async fn another_site_changes_nothing() {
    let server = start(Daemon::default()).await;
    for headers in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: SAME-ORIGIN",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost:7656",
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: ",
        "Origin: http://localhost",
        "Origin: http://localhost:3000",
        "Origin: localhost:7656",
        "Origin: file://localhost:7656",
        "Origin: http://localhost:7656/",
        "Origin: http://127.0.0.1:7656",
        "Origin: http://localhost:7656\r\nOrigin: http://evil.example",
    ] {
        for request in changes(headers) {
            let answer = server.ask(&request).await;
            assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("cross_site")), "{request}");
        }
    }
    assert_eq!(server.asked(), Vec::<&str>::new());
}

#[tokio::test]
async fn the_own_page_and_a_program_may_change_something() {
    let server = start(Daemon::default()).await;
    for headers in [
        "X-Nothing: here",
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:7656",
        "Sec-Fetch-Site: none",
        "Origin: http://localhost:7656",
        "Origin: https://LOCALHOST:7656",
    ] {
        for request in changes(headers) {
            assert_eq!(server.ask(&request).await.status, 200, "{request}");
        }
    }
}

#[tokio::test]
async fn a_default_port_that_is_written_out_is_the_same_as_none() {
    let settings = ServeSettings { allowed_hosts: hosts(&["telemetry.lan"]), token: None };
    let server = start_guarded(settings).await;
    let ask = |host: &str, origin: &str| {
        let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n");
        post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)
    };
    for (host, origin) in [
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("telemetry.lan:443", "https://telemetry.lan"),
        ("TELEMETRY.lan.:443", "https://telemetry.lan"),
        ("telemetry.lan", "https://telemetry.lan."),
        ("10.42.0.7:80", "http://10.42.0.7"),
        ("[fd00::5]:443", "https://[fd00::5]"),
        ("[fd00::5]:7656", "http://[fd00::5]:7656"),
    ] {
        assert_eq!(server.ask(&ask(host, origin)).await.status, 200, "{host} {origin}");
    }
    for (host, origin) in [
        ("localhost:443", "http://localhost"),
        ("localhost:80", "https://localhost"),
        ("localhost", "http://localhost:443"),
        ("localhost:7656", "http://localhost"),
        ("telemetry.lan", "http://telemetry.lan:8080"),
        ("localhost:80", "http://telemetry.lan"),
        ("10.42.0.7", "http://10.42.0.8"),
        ("[fd00::5]", "http://[fd00::6]"),
        ("localhost", "http://localhost@evil.example"),
        ("localhost", "http://evil.example:80@localhost"),
        ("localhost", "http://localhost:80:80"),
        ("localhost", "ftp://localhost"),
    ] {
        assert_eq!(server.ask(&ask(host, origin)).await.status, 403, "{host} {origin}");
    }
}

#[tokio::test]
async fn a_page_that_is_refused_learns_which_host_and_origin_were_compared_and_what_a_proxy_has_to_pass_on() {
    let server = start_guarded(ServeSettings { allowed_hosts: hosts(&["telemetry.lan"]), token: None }).await;
    for (host, origin) in [
        ("127.0.0.1:7656", "http://telemetry.lan"),
        ("telemetry.lan", "http://telemetry.lan:8080"),
        ("localhost", "null"),
    ] {
        let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n");
        let answer = server.ask(&post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)).await;
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("cross_site")));
        assert!(
            said.contains(&format!("{origin} (its Origin)")) && said.contains(&format!("{host} (its Host)")),
            "{said}"
        );
        assert!(said.contains("proxy_set_header Host $http_host;"), "{said}");
    }
    let long = format!("http://{}\u{1b}[31m", "x".repeat(2000));
    let headers = format!("Host: localhost\r\nOrigin: {long}\r\n");
    let answer = server.ask(&post("/api/v1/reset-id").replacen("Host: localhost\r\n", &headers, 1)).await;
    assert!(answer.status == 400 || answer.text().len() < 1000, "{}", answer.text());
}

#[tokio::test]
async fn another_site_may_link_to_the_page_but_not_load_the_api() {
    let server = start(Daemon::default()).await;
    for (path, site, status) in [
        ("/", "cross-site", 200),
        ("/", "same-site", 200),
        ("/api/v1/status", "cross-site", 403),
        ("/api/v1/preview/bytes", "same-site", 403),
        ("/api/system/settings/telemetry-preview", "cross-site", 403),
        ("/api/v1/status", "same-origin", 200),
        ("/api/v1/status", "none", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {site}\r\n\r\n");
        assert_eq!(server.ask(&request).await.status, status, "{path} {site}");
    }
    // An image would ask again and again for what a link asks for once: a reading of Pulse.
    for (site, dest, status) in [
        ("cross-site", "document", 200),
        ("cross-site", "image", 403),
        ("same-site", "iframe", 403),
        ("same-origin", "image", 200),
    ] {
        let headers = format!("Sec-Fetch-Site: {site}\r\nSec-Fetch-Dest: {dest}");
        let request = format!("GET /?read HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
        assert_eq!(server.ask(&request).await.status, status, "{site} {dest}");
    }
}

#[tokio::test]
async fn off_loopback_there_is_no_server_without_a_token() {
    let listen = |address: &str| Listen::Tcp(address.parse().unwrap());
    let (handle, _receiver) = Handle::new(1);
    for address in ["0.0.0.0:0", "[::]:0"] {
        let listener = Listener::bind(&listen(address)).await.unwrap();
        let told = listener.local_addr();
        let refused = Server::new(listener, &ServeSettings::default(), app(handle.clone())).unwrap_err();
        assert_eq!(refused, ServeError::TokenNeeded(told));
        assert!(refused.to_string().contains("serve.token_file"));
    }
    let listener = Listener::bind(&listen("0.0.0.0:0")).await.unwrap();
    let settings = ServeSettings { token: Some(String::new().into()), ..ServeSettings::default() };
    assert_eq!(Server::new(listener, &settings, app(handle.clone())).unwrap_err(), ServeError::EmptyToken);
    let listener = Listener::bind(&listen("0.0.0.0:0")).await.unwrap();
    let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
    assert!(Server::new(listener, &settings, app(handle)).is_ok());
}

#[tokio::test]
async fn the_api_asks_for_the_token_and_what_holds_no_data_does_not() {
    let server = start_guarded(ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() }).await;
    let status = |headers: &str| format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    for headers in [
        "X-Nothing: here".to_owned(),
        "Authorization: Bearer wrong".to_owned(),
        "Authorization: Bearer ".to_owned(),
        format!("Authorization: Bearer {TOKEN}x"),
        format!("Authorization: Bearer {}", TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}"),
        format!("Authorization: {TOKEN}"),
        "X-API-Token: wrong".to_owned(),
        format!("Cookie: token={TOKEN}"),
    ] {
        let answer = server.ask(&status(&headers)).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{headers}");
        assert_eq!(answer.json()["error"], "unauthorized");
    }
    for (path, allow, _) in METHODS.into_iter().filter(|(path, ..)| path.starts_with("/api/") || *path == "/metrics") {
        let method = allow.split(", ").find(|method| *method != "OPTIONS").unwrap();
        let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(server.asked(), Vec::<&str>::new());
    for path in ["/", "/style.css", "/page.js", "/openapi.json", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for headers in [
        format!("Authorization: Bearer {TOKEN}"),
        format!("Authorization: bearer   {TOKEN}"),
        format!("X-API-Token: {TOKEN}"),
    ] {
        assert_eq!(server.ask(&status(&headers)).await.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn the_token_is_in_no_debug_output() {
    let (handle, _receiver) = Handle::new(1);
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let settings = ServeSettings { token: Some(TOKEN.into()), ..ServeSettings::default() };
    let server = Server::new(listener, &settings, app(handle)).unwrap();
    assert!(!format!("{settings:?} {server:?}").contains(TOKEN));
}

#[tokio::test]
async fn no_answer_carries_a_cors_header_and_each_carries_those_that_shut_others_out() {
    let server = start(Daemon::default()).await;
    let mut requests: Vec<String> = METHODS.iter().map(|(path, ..)| with_origin("GET", path)).collect();
    requests.extend(METHODS.iter().map(|(path, ..)| with_origin("OPTIONS", path)));
    requests.push(with_origin("GET", "/nothing"));
    requests.push(with_origin("POST", "/api/v1/reset-id"));
    requests.push("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned());
    for request in requests {
        let answer = server.ask(&request).await;
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control-")), "{request}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{request}");
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{request}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"));
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
    }
}

/// Each request that changes something, with these headers.
fn changes(headers: &str) -> [String; 3] {
    [post("/api/v1/reset-id"), post("/api/system/settings/telemetry-reset-id"), switch(r#"{"enabled":true}"#)]
        .map(|request| request.replacen("Host: localhost\r\n", &format!("Host: localhost:7656\r\n{headers}\r\n"), 1))
}

fn with_origin(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n")
}

fn hosts(texts: &[&str]) -> Vec<Host> {
    texts.iter().map(|text| Host::parse_bare(text).unwrap()).collect()
}
