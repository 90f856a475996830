//! A valid query, printed as parameters and parsed again, must give the same query.
#![no_main]

use crashkeep::clock::Timestamp;
use crashkeep::fields::Catalogue;
use crashkeep::query::Query;
use crashkeep::web::Params;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = Timestamp::from_ms(1_795_338_764_123);
    let catalogue = Catalogue::builtin();
    if let Ok(query) = Query::parse(&catalogue, &Params::parse(text).0, now, true) {
        let again = Query::parse(&catalogue, &query.to_params(), now, true);
        let again = again.expect("its own print parses");
        assert_eq!(again, query);
    }
});
