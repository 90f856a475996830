//! Reads addresses in requests and settings, and commands about accounts. Nothing must panic.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use crashkeep::access::commands::AccountCommand;
use crashkeep::addresses::{PublicUrl, TrustedProxies};
use crashkeep::pages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let proxies = TrustedProxies::read(["127.0.0.1", "10.0.0.0/8", "fd00::/8"]).expect("good ones");
    let client = proxies.client(local, text.lines());
    assert!(client.is_some());
    if let Some(proxies) = TrustedProxies::read(text.split_whitespace()) {
        let printed = proxies.to_string();
        assert_eq!(TrustedProxies::read(printed.split(' ').filter(|word| !word.is_empty())), Some(proxies));
    }
    if let Ok(url) = text.parse::<PublicUrl>() {
        assert_eq!(url.as_str().parse::<PublicUrl>(), Ok(url.clone()));
        assert!(url.as_str().ends_with(url.base_path()));
        pages::below(url.base_path(), text.as_bytes());
    }
    let _ = serde_json::from_str::<AccountCommand>(text);
});
