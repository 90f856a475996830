//! A valid query, printed as parameters and parsed again, must give the same query.
#![no_main]

use crashkeep::clock::Timestamp;
use crashkeep::query::Query;
use crashkeep::web::Params;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = Timestamp::from_ms(1_795_338_764_123);
    if let Ok(query) = Query::parse(&Params::parse(text).0, now, true) {
        let again = Query::parse(&query.to_params(), now, true).expect("its own print parses");
        assert_eq!(again, query);
    }
});
