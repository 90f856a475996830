//! Limits for everything that comes from outside, unless a setting limits it.

/// Faults of the walker on one crash before the crash fails.
pub(crate) const FAULTS_MAX: u8 = 2;
/// Other dumps of one report that are walked in addition to the main one.
pub(crate) const OTHER_DUMPS_MAX: usize = 8;
/// Deaths of the server with a crash in flight before that crash is a suspect and runs alone.
pub(crate) const SERVER_DEATHS_SUSPECT: u8 = 2;
/// Deaths of the server with a crash in flight before that crash is finished without a walk.
pub(crate) const SERVER_DEATHS_MAX: u8 = 5;

/// Characters of a product or version name in lists. The annotation keeps the full name.
pub(crate) const NAME_CHARS_MAX: usize = 100;

/// Annotations in one report. A client that sends more is broken or hostile.
pub(crate) const ANNOTATIONS_MAX: usize = 1_000;
/// Bytes of the key of an annotation.
pub(crate) const ANNOTATION_KEY_BYTES_MAX: usize = 256;
/// Bytes of the value of one annotation. A longer value becomes an attachment, so nothing is lost.
pub(crate) const ANNOTATION_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all annotations of one report.
pub(crate) const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Files (dumps and attachments) in one report.
pub(crate) const FILES_MAX: usize = 128;
/// Characters of the name of a dump or attachment.
pub(crate) const PART_NAME_CHARS_MAX: usize = 100;
/// Bytes of memory that all incoming reports may use together.
pub(crate) const INTAKE_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a report's files that stay in memory while the report arrives. The rest spills to disk.
pub(crate) const REPORT_MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of an event or of breadcrumbs of Sentry's clients that are read. A larger file is only stored.
pub(crate) const SENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Tags of such an event that become annotations.
pub(crate) const SENTRY_TAGS_MAX: usize = 100;
/// Layers of packing around a dump. A gzip file in a multipart body in a gzip file has three.
pub(crate) const DUMP_LAYERS_MAX: usize = 4;
/// Notes of the collector on one report.
pub(crate) const COLLECTOR_NOTES_MAX: usize = 100;

/// Bytes of a request head.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header lines of a request.
pub(crate) const HEADERS_MAX: usize = 100;
/// Concurrent connections.
pub(crate) const CONNECTIONS_MAX: usize = 2_048;
/// Divisor of the connections that one address, or one /64 of IPv6, may have: an eighth.
pub(crate) const CONNECTIONS_SHARE: usize = 8;
/// Connections are scarce if at least this fraction (numerator, denominator) is in use. Then time limits
/// are tighter.
pub(crate) const CONNECTIONS_SHORT: (usize, usize) = (3, 4);
/// File descriptors that the process needs in addition to its connections.
pub(crate) const DESCRIPTORS_BESIDE: u64 = 512;
/// Seconds for a complete request head to arrive, and the same while connections are scarce.
pub(crate) const HEAD_SECONDS_MAX: u64 = 10;
pub(crate) const HEAD_SECONDS_MAX_SHORT: u64 = 3;
/// Seconds between two pieces of a body.
pub(crate) const BODY_IDLE_SECONDS_MAX: u64 = 20;
/// Bytes per second at which a body must arrive on average, once [`BODY_GRACE_SECONDS`] have passed.
pub(crate) const BODY_RATE: u64 = 8 * 1024;
pub(crate) const BODY_GRACE_SECONDS: u64 = 30;
/// The same while connections are scarce.
pub(crate) const BODY_RATE_SHORT: u64 = 32 * 1024;
pub(crate) const BODY_GRACE_SECONDS_SHORT: u64 = 5;
/// Seconds between two pieces of an answer that a client reads.
pub(crate) const ANSWER_IDLE_SECONDS_MAX: u64 = 30;
/// Bytes of a body that is not a crash report.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Decompressed bytes that every body may have, whatever its ratio.
pub(crate) const INFLATE_FREE_BYTES: u64 = 1024 * 1024;

/// Concurrent uploads of symbols. Each one uses disk space until it is unpacked.
pub(crate) const UPLOADS_MAX: usize = 16;
/// Uploads of symbols that are unpacked concurrently.
pub(crate) const UPLOADS_UNPACKED_MAX: usize = 8;
/// Seconds that an upload waits until a slower one ends.
pub(crate) const UPLOAD_PLACE_SECONDS_MAX: u64 = 5;
/// Files in one archive of symbols.
pub(crate) const UPLOAD_ENTRIES_MAX: usize = 10_000;
/// Text fields, apart from the files, in one form with symbols.
pub(crate) const UPLOAD_FIELDS_MAX: usize = 64;
/// Bytes of one such text field.
pub(crate) const UPLOAD_FIELD_BYTES_MAX: usize = 4 * 1024;

/// Jobs in one request to symbolicate addresses. Eliot has the same limit.
pub(crate) const SYMBOLICATE_JOBS_MAX: usize = 10;
/// Modules of one such job.
pub(crate) const SYMBOLICATE_MODULES_MAX: usize = 1_000;
/// Stacks in one such request.
pub(crate) const SYMBOLICATE_STACKS_MAX: usize = 1_000;
/// Frames in one such request.
pub(crate) const SYMBOLICATE_FRAMES_MAX: usize = 20_000;

/// Crash ids in one request for reprocessing.
pub(crate) const REPROCESS_IDS_MAX: usize = 10_000;
/// Bytes of a signature input that are stored. A larger input is read from its report each time the
/// signature is computed again.
pub(crate) const SIGNATURE_INPUT_BYTES_MAX: usize = 64 * 1024;
/// Crashes in one request for signatures.
pub(crate) const SIGNATURE_JOBS_MAX: usize = 1_000;
/// Characters of the comment on a change.
pub(crate) const COMMENT_CHARS_MAX: usize = 500;
/// Modules without symbols that are stored per crash.
pub(crate) const LACKED_MAX: usize = 300;
/// Bytes of the name of such a module.
pub(crate) const LACKED_NAME_BYTES_MAX: usize = 300;
/// Bytes of the result of one walk: about 50,000 frames.
pub(crate) const WALK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the URL of a bug.
pub(crate) const BUG_URL_BYTES_MAX: usize = 2_000;
/// Bytes of a URL that files a bug. Servers refuse request lines of 8 KiB.
pub(crate) const BUG_LINK_BYTES_MAX: usize = 7_000;
/// Bytes of a signature that a bug is attached to: four for each character that a signature can have.
pub(crate) const BUG_SIGNATURE_BYTES_MAX: usize = 1_020;
/// Signatures in the field of one bug.
pub(crate) const BUG_SIGNATURES_MAX: usize = 1_000;
/// Characters each of the summary, status and resolution of a bug.
pub(crate) const BUG_TEXT_CHARS_MAX: usize = 500;
/// Signatures or bugs in one request to the API.
pub(crate) const BUGS_ASKED_MAX: usize = 1_000;

/// Bytes of the answer to a request that we send to another server.
pub(crate) const OUTBOUND_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Seconds to connect to another server.
pub(crate) const OUTBOUND_CONNECT_SECONDS_MAX: u64 = 5;
/// Seconds for the complete answer of another server.
pub(crate) const OUTBOUND_SECONDS_MAX: u64 = 20;
/// Redirects that are followed for one file.
pub(crate) const OUTBOUND_REDIRECTS_MAX: usize = 3;

/// Bytes of a memory report that processing reads, as received and decompressed.
pub(crate) const MEMORY_REPORT_BYTES_MAX: u64 = 8 * 1024 * 1024;
pub(crate) const MEMORY_REPORT_INFLATED_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Products that pages and answers list: those with the most crashes. Clients choose their names.
pub(crate) const PRODUCTS_MAX: usize = 200;
/// Versions of one product in one answer: those with the most crashes.
pub(crate) const VERSIONS_MAX: usize = 1_000;
/// Rows of an answer that counts reports by rule, product and version.
pub(crate) const THROTTLE_COUNTS_MAX: usize = 10_000;
/// Parameters of one search, including the conditions in its search box.
pub(crate) const QUERY_PARAMS_MAX: usize = 500;
/// Results of one search.
pub(crate) const RESULTS_NUMBER_MAX: usize = 1_000;
/// The last result that a client can page to.
pub(crate) const RESULTS_END_MAX: usize = 10_000;
/// Values listed for one facet.
pub(crate) const FACETS_SIZE_MAX: usize = 10_000;
/// Decompressed bytes of a gzipped multipart body inside a part that are read for its texts.
pub(crate) const NESTED_BYTES_MAX: u64 = 256 << 20;
/// Facets of one search, including nested ones.
pub(crate) const FACETS_MAX: usize = 100;
/// Levels of nested facets.
pub(crate) const FACET_DEPTH_MAX: usize = 4;
/// Seconds of one search.
pub(crate) const SEARCH_SECONDS_MAX: u64 = 10;
/// Bytes of memory for what one search counts, sorts and returns.
pub(crate) const SEARCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same for all concurrent searches together, not counting what each may always use.
pub(crate) const SEARCHES_BYTES_MAX: usize = 4 * SEARCH_BYTES_MAX;
/// Bytes that every search may use, however many others run.
pub(crate) const SEARCH_BYTES_FREE: usize = 1024 * 1024;
/// Distinct values that are counted exactly. Above this, the answer is an estimate with its error.
pub(crate) const UNIQUE_EXACT_MAX: usize = 100_000;
/// Fields by which results are sorted.
pub(crate) const SORTS_MAX: usize = 3;
/// Days of one search.
pub(crate) const DATE_RANGE_DAYS_MAX: i64 = 365;
/// Bytes of a compiled regular expression.
pub(crate) const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all regular expressions of one search.
pub(crate) const REGEXES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Distinct regular expressions of one search, including texts with wildcards.
pub(crate) const REGEXES_MAX: usize = 100;
/// Words and phrases of one full-text search.
pub(crate) const TEXT_CLAUSES_MAX: usize = 50;

/// Bytes of one value in the index. A longer value is truncated there, never in the store.
pub(crate) const INDEX_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes in the index of an annotation that is not a field.
pub(crate) const INDEX_ANNOTATION_BYTES_MAX: usize = 512;
/// Bytes of one field in the full-text search.
pub(crate) const INDEX_TEXT_BYTES_MAX: usize = 32 * 1024;
/// Values of one field of one crash in the index.
pub(crate) const INDEX_VALUES_MAX: usize = 1_000;
/// Distinct annotations in the index that are not fields. Each one costs columns in every segment of the
/// index.
pub(crate) const INDEX_ANNOTATION_KEYS_MAX: usize = 500;

/// Tokens of one account.
pub const TOKENS_PER_USER_MAX: usize = 100;
