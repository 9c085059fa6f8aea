//! The published page in a real Chromium, from a plain file server. Pictures are kept in the target directory's
//! `test-output/page`.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Span, Timestamp};
use pulse_telemetry_collector::numbers::rounding::RoundingKey;
use pulse_telemetry_collector::numbers::{DayNumbers, DayTally, Lent, counted_fields};
use pulse_telemetry_collector::publish::{self, Published};
use pulse_telemetry_core::clock::Clock as _;
use pulse_telemetry_core::contract::{FIELDS, Field, FieldKind};
use pulse_telemetry_process::clock::SystemClock;
use pulse_telemetry_testkit::browser::{Page, axe_or_skip, browser_or_skip};
use pulse_telemetry_testkit::collector::{Collector, Setup, Storage, block_on, install_id, open, ping_of, row};
use pulse_telemetry_testkit::disk::files_below;
use pulse_telemetry_testkit::endpoint::CertificateAuthority;
use pulse_telemetry_testkit::fleet::Fleet;
use pulse_telemetry_testkit::server::{ResponsePlan, Server};
use serde_json::{Value, json};

const DAYS: i64 = 75;

/// Narrow and wide, light and dark.
const LOOKS: [(bool, u32, &str); 4] =
    [(false, 1280, "site"), (true, 1280, "site-dark"), (false, 360, "site-narrow"), (true, 360, "site-narrow-dark")];

fn published(size: u64) -> Published {
    Published { days: Fleet::new(size, date(2026, 9, 11), DAYS, 17).numbers(DAYS) }
}

/// The site of these numbers, and a server that knows nothing but files.
fn serve(published: &Published) -> (tempfile::TempDir, Server) {
    let site = tempfile::tempdir().unwrap();
    publish::write(published, site.path()).unwrap();
    let files = files_below(site.path());
    let root = site.path().to_owned();
    let server = Server::start(move |request| {
        let name = if request.path() == "/" { "index.html" } else { request.path().trim_start_matches('/') };
        let kind = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html",
            Some("json") => "application/json",
            _ => "application/octet-stream",
        };
        let found = files.iter().find(|(path, _)| *path == root.join(name));
        found.map_or_else(|| ResponsePlan::status(404), |(_, bytes)| ResponsePlan::bytes(200, kind, bytes.clone()))
    });
    (site, server)
}

/// How the page looks, once all that can be opened is open.
fn look(page: &Page, name: &str, axe: &str) {
    page.picture(name);
    page.eval("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
    page.picture(&format!("{name}-open"));
    let width = page.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
    assert!(width[0].as_u64() <= width[1].as_u64(), "{name}: {width} pixels wide");
    let sizes = page.eval(
        "[...document.querySelectorAll('body *')].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && \
         n.data.trim())).map((e) => parseFloat(getComputedStyle(e).fontSize) * (e.getScreenCTM ? \
         Math.min(e.getScreenCTM().a, e.getScreenCTM().d) : 1))",
    );
    let sizes: Vec<f64> = sizes.as_array().unwrap().iter().map(|size| size.as_f64().unwrap()).collect();
    assert!(sizes.len() > 100 && sizes.iter().all(|size| *size >= 12.0), "{name}: {sizes:?}");
    let overlapping = page.eval(
        "[...document.querySelectorAll('svg[role=img]')].flatMap((svg) => {
           const card = svg.parentNode.getBoundingClientRect();
           const texts = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
           const beside = (a) => a.left < card.left || a.right > card.right;
           const on = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
           const bad = ([, a], i) => beside(a) || texts.some(([, b], j) => i < j && on(a, b));
           return texts.filter(bad).map(([text]) => text);
         })",
    );
    assert_eq!(overlapping, json!([]), "{name}: texts of a chart that lie on one another or beside it");
    page.audit(axe, name);
    page.eval("document.querySelectorAll('details').forEach((details) => { details.open = false; })");
}

#[test]
fn the_published_page_can_be_read_narrow_and_wide_in_light_and_dark_and_asks_nobody_anything() {
    let test = "the_published_page_can_be_read_narrow_and_wide_in_light_and_dark_and_asks_nobody_anything";
    let (Some(browser), Some(axe)) = (browser_or_skip(test), axe_or_skip(test)) else { return };
    for (fleet, size) in [("", 2_400), ("-small", 150)] {
        let (_site, server) = serve(&published(size));
        let page = browser.open();
        page.visit(&server.url());
        for (dark, width, name) in LOOKS {
            page.look_like(dark, width, 900);
            look(&page, &format!("{name}{fleet}"), &axe);
        }
        assert_eq!(page.eval("document.scripts.length"), json!(0));
        assert_eq!(page.complaints(), Vec::<String>::new());
        let asked: Vec<String> = page.asked().into_iter().map(|asked| asked.url).collect();
        assert_eq!(asked, [format!("{}/", server.url())], "the page alone");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn the_maintainers_page_can_be_read_as_the_published_one_and_asks_nobody_anything() {
    let test = "the_maintainers_page_can_be_read_as_the_published_one_and_asks_nobody_anything";
    let (Some(browser), Some(axe)) = (browser_or_skip(test), axe_or_skip(test)) else { return };
    let storage = Storage::sqlite();
    let today = Offset::UTC.to_datetime(SystemClock.now().wall).date();
    let fleet = Fleet::new(150, today.checked_sub(Span::new().days(4)).unwrap(), 4, 17);
    block_on(async {
        let store = open(&storage).await;
        for day in 0..4 {
            store.commit(fleet.rows(day)).await.unwrap();
        }
    });
    let collector = Setup::new(&storage).start();
    let page = browser.open();
    let url = format!("http://{}/", collector.admin);
    collector.wait_for("the last day is counted", || collector.ask_admin("/").text().contains("Active installations"));
    page.visit(&url);
    for (dark, width, name) in LOOKS {
        page.look_like(dark, width, 900);
        look(&page, &name.replace("site", "maintainers"), &axe);
    }
    assert_eq!(page.complaints(), Vec::<String>::new());
    assert_eq!(page.asked().into_iter().map(|asked| asked.url).collect::<Vec<_>>(), [url]);
}

#[test]
fn the_page_says_whether_the_number_grows_or_shrinks_and_draws_no_course_of_one_day() {
    let (small, large) = (published(300), published(600));
    let page = |first: &Published, then: &Published| {
        let days = [&first.days[..first.days.len() - 1], &then.days[then.days.len() - 1..]].concat();
        publish::page(&Published { days }).into_string()
    };
    assert!(page(&small, &large).contains("The number is growing by more than 1 % a day"));
    assert!(page(&large, &small).contains("The number is shrinking by more than 1 % a day"));
    let steady = publish::page(&small).into_string();
    assert!(!steady.contains("growing") && !steady.contains("shrinking"));
    assert!(steady.contains("Installations by day") && steady.contains("Versions by day"));
    let first = publish::page(&Published { days: small.days.into_iter().take(1).collect() }).into_string();
    assert!(!first.contains("by day") && first.contains(r#"<p class="total">"#));
    assert!(publish::page(&Published { days: Vec::new() }).into_string().contains("No whole day was counted yet"));
}

/// What the maintainers' page says of the collector.
fn health(collector: &Collector) -> BTreeMap<String, String> {
    let page = collector.ask_admin("/").text();
    let fact = |fact: &str| {
        let (name, value) = fact.split_once("</dt><dd>")?;
        Some((name.to_owned(), value.split("</dd>").next()?.to_owned()))
    };
    page.split("How this is counted").next().unwrap().split("<dt>").skip(1).filter_map(fact).collect()
}

#[test]
fn the_maintainers_page_tells_each_fact_of_the_collectors_health() {
    let storage = Storage::sqlite();
    let earlier = SystemClock.now().wall - SignedDuration::from_hours(1);
    block_on(async { open(&storage).await.commit(vec![row(&ping_of(3), earlier)]).await.unwrap() });
    let collector = Setup::new(&storage).start();
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    assert_eq!(collector.post(&ping_of(1)).status, 204);
    assert_eq!(collector.post(&ping_of(2)).status, 204);
    assert_eq!(collector.post_bytes("no ping", &[]).status, 400);
    assert_eq!(collector.forget(&install_id(2)).status, 200);
    let time = |name: &str| Timestamp::from_second(collector.metric(name) as i64).unwrap().to_string();
    let none = |name: &str| collector.metric(name) < 0.5;
    collector.wait_for("the purge at the start", || !none("last_purge_timestamp_seconds"));
    collector.wait_for("the oldest row is told", || !none("oldest_row_timestamp_seconds"));
    collector.wait_for("the size is told", || !none("storage_bytes"));
    collector.wait_for("the last day is counted", || !none("publishing_works"));
    let facts = health(&collector);
    let fact = |name: &str| facts.get(name).unwrap_or_else(|| panic!("no {name} in {facts:?}")).as_str();
    for (name, value) in [
        ("storage", "works"),
        ("size of the storage", "0 MB, at most 17180 MB"),
        ("pings stored since the start", "2"),
        ("duplicates", "1"),
        ("refused", "1"),
        ("limited", "0"),
        ("turned away", "0"),
        ("failed", "0"),
        ("deletions", "1"),
        ("days that could not be rewritten", "0"),
        ("counting and publishing", "works"),
        ("oldest ping", &time("oldest_row_timestamp_seconds")),
        ("last purge", &time("last_purge_timestamp_seconds")),
        ("end of the certificate", "none of its own"),
    ] {
        assert_eq!(fact(name), value, "{name}");
    }
    assert_eq!(facts.len(), 14, "{facts:?}");
    collector.stop();
    let issued = CertificateAuthority::new().issue_for_loopback();
    let setup = Setup::new(&storage);
    let (cert, key) = (setup.write("cert.pem", &issued.cert_pem), setup.write("key.pem", &issued.key_pem));
    let setup = setup.with("SERVE__TLS_CERT", cert.to_str().unwrap()).with("SERVE__TLS_KEY", key.to_str().unwrap());
    let collector = setup.start();
    let ends = Timestamp::from_second(collector.metric("certificate_end_timestamp_seconds") as i64).unwrap();
    assert_eq!(health(&collector)["end of the certificate"], ends.to_string());
}

#[test]
fn no_text_that_a_sender_made_up_is_published_however_many_ids_send_it_and_none_can_be_markup() {
    let mut tally = DayTally::default();
    for made_up in ["<script>alert(1)</script>\"'&", "6.0.0-rc.1.somebody", "0.0.0-somebody", "somebody"] {
        for _ in 0..50 {
            let value = |field: &Field| match field.kind {
                FieldKind::Count => Lent::Count(1),
                FieldKind::Flag => Lent::Flag(true),
                _ => Lent::Text(made_up),
            };
            tally.add(&counted_fields().map(value).collect::<Vec<_>>());
        }
    }
    let mut day = DayNumbers::new(date(2026, 11, 24), &tally, &RoundingKey::new(&[7; 32]));
    let published = serde_json::to_string(&day).unwrap();
    assert!(!published.contains("somebody") && !published.contains("script"), "{published}");
    assert!(day.versions.iter().map(|cell| cell.ids).sum::<u64>() > 190, "they are counted: {published}");
    // What an older collector published stays.
    day.versions[0].version = Some("<script>alert(1)</script>\"'&".to_owned());
    let page = publish::page(&Published { days: vec![day] }).into_string();
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn each_chart_of_the_published_page_has_a_name_and_a_table_and_each_link_leads_to_a_file() {
    let test = "each_chart_of_the_published_page_has_a_name_and_a_table_and_each_link_leads_to_a_file";
    let Some(browser) = browser_or_skip(test) else { return };
    let published = published(600);
    let (_site, server) = serve(&published);
    let page = browser.open();
    page.visit(&server.url());
    let cards = page.eval(
        "[...document.querySelectorAll('.card')].filter((card) => card.querySelector('svg')).map((card) => \
         [card.querySelectorAll('svg[role=img]').length, card.querySelectorAll('table caption').length, \
         card.querySelectorAll('th:not([scope])').length])",
    );
    let cards = cards.as_array().unwrap();
    assert!(cards.len() > 15, "{cards:?}");
    assert!(cards.iter().all(|card| card[0].as_u64() <= Some(1) && card[1] == 1 && card[2] == 0), "{cards:?}");
    let charts = page.eval(
        "[...document.querySelectorAll('svg')].filter((svg) => !svg.parentNode.closest('svg')).map((svg) => \
         svg.getAttribute('aria-hidden') === 'true' ? 'hidden' : svg.role === 'img' ? svg.ariaLabel : null)",
    );
    let charts: Vec<Option<String>> = serde_json::from_value(charts).unwrap();
    assert!(charts.iter().flatten().filter(|name| name.starts_with("Chart: ")).count() > 15, "{charts:?}");
    assert!(charts.iter().all(|name| name.as_ref().is_some_and(|name| !name.is_empty())), "{charts:?}");
    let levels = page.eval("[...document.querySelectorAll('h1, h2, h3')].map((heading) => +heading.tagName[1])");
    let levels: Vec<u64> = levels.as_array().unwrap().iter().map(|level| level.as_u64().unwrap()).collect();
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    assert!(levels.windows(2).all(|two| two[1] <= two[0] + 1), "headings in order: {levels:?}");
    let text = page.text("body");
    for field in FIELDS {
        assert!(text.contains(field.name), "{} is neither shown nor said to be left out", field.name);
    }
    let purposes = FIELDS.iter().filter(|field| text.contains(field.purpose)).count();
    assert!(purposes >= FIELDS.len() - 5, "{purposes}");
    let links = page.eval("[...document.querySelectorAll('a')].map((link) => link.href)");
    let links: Vec<String> = serde_json::from_value(links).unwrap();
    assert_eq!(links.len(), 3);
    for link in links {
        assert!(link.starts_with(&server.url()), "{link} is elsewhere");
        page.visit(&link);
        let shown: Value = serde_json::from_str(&page.text("body")).unwrap();
        assert!(shown.is_object(), "{link}");
    }
}

#[test]
fn each_file_of_the_site_holds_to_the_schema_beside_it_which_describes_each_of_its_keys() {
    for size in [5, 150, 2_400] {
        let site = tempfile::tempdir().unwrap();
        publish::write(&published(size), site.path()).unwrap();
        let read =
            |name: &str| -> Value { serde_json::from_slice(&std::fs::read(site.path().join(name)).unwrap()).unwrap() };
        let schema = read("numbers.schema.json");
        let of_numbers = jsonschema::validator_for(&schema).unwrap();
        let of_a_day = json!({"$ref": "#/$defs/day", "$defs": schema["$defs"]});
        let of_a_day = jsonschema::validator_for(&of_a_day).unwrap();
        let numbers = read("numbers.json");
        assert!(of_numbers.is_valid(&numbers), "{size}: {numbers:#}");
        let days = numbers["days"].as_array().unwrap();
        assert_eq!(i64::try_from(days.len()).unwrap(), DAYS - 1);
        for line in days {
            let day = read(&format!("days/{}.json", line["day"].as_str().unwrap()));
            assert!(of_a_day.is_valid(&day), "{day:#}");
            for key in ["day", "installations", "versions"] {
                assert_eq!(line[key], day[key], "{key}");
            }
        }
        assert_eq!(numbers["latest"]["ids"].is_null(), size == 5);
        for (pointer, wrong) in [
            ("/format", json!(2)),
            ("/latest/ids", json!(1234)),
            ("/latest/installations", json!(4)),
            ("/latest/day", json!(null)),
            ("/trend", json!("up")),
            ("/days/0/versions", json!([{"version": "6.4.0"}])),
            ("/channels", json!([{"value": "stable", "ids": 5}])),
            ("/days", json!([])),
        ] {
            let mut numbers = numbers.clone();
            *numbers.pointer_mut(pointer).unwrap() = wrong;
            assert!(!of_numbers.is_valid(&numbers), "{pointer}");
        }
        assert_eq!(undescribed("", &schema, &schema["$defs"]), Vec::<String>::new());
        let channels = pulse_telemetry_core::contract::field("version_channel").unwrap().kind;
        let FieldKind::Choice(channels) = channels else { unreachable!("channels are a choice") };
        let mut listed = json!(channels).as_array().unwrap().clone();
        listed.push(Value::Null);
        assert_eq!(schema["$defs"]["versions"]["items"]["properties"]["channel"]["enum"], Value::Array(listed));
    }
}

/// The keys of which the schema does not say what they are.
fn undescribed(name: &str, schema: &Value, definitions: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let named = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
        if value["description"].is_null() && named.is_none_or(|named| definitions[named]["description"].is_null()) {
            found.push(format!("{name}/{key}"));
        }
        found.extend(undescribed(&format!("{name}/{key}"), value, definitions));
    }
    for inner in [&schema["items"]].into_iter().chain(schema["$defs"].as_object().into_iter().flat_map(|o| o.values()))
    {
        if !inner.is_null() {
            found.extend(undescribed(name, inner, definitions));
        }
    }
    found
}
