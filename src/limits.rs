//! Bounds on everything that comes from outside, where they are not settings.

/// Walker deaths or overruns on one crash before it is given up.
pub const FAULTS_MAX: u8 = 2;
/// Dumps of one report that are walked beside the main one.
pub const OTHER_DUMPS_MAX: usize = 8;
/// Deaths of the server with a crash in flight before that crash runs alone.
pub const SERVER_DEATHS_SUSPECT: u8 = 2;
/// Deaths of the server with a crash in flight before it is set aside.
pub const SERVER_DEATHS_MAX: u8 = 5;

/// Characters of a product's or version's name in lists; the annotation itself keeps all.
pub const NAME_CHARS_MAX: usize = 100;

/// Annotations in one report. A client with more is broken or hostile.
pub const ANNOTATIONS_MAX: usize = 1_000;
/// Bytes of an annotation's key.
pub const ANNOTATION_KEY_BYTES_MAX: usize = 256;
/// Bytes of one annotation's value; what is longer becomes an attachment, so nothing is lost.
pub const ANNOTATION_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all annotations of one report.
pub const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Files (dumps and attachments) in one report.
pub const FILES_MAX: usize = 128;
/// Characters of a dump's or attachment's name.
pub const PART_NAME_CHARS_MAX: usize = 100;
/// Bytes that all reports on their way in may hold in memory together.
pub const INTAKE_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a report's files that stay in memory on their way in; the rest spills to disk.
pub const REPORT_MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of an event or of breadcrumbs of Sentry's clients that are read; a longer one is kept only.
pub const SENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Tags of such an event that become annotations.
pub const SENTRY_TAGS_MAX: usize = 100;
/// Packings around a dump: a gzip in a multipart body in a gzip has three.
pub const DUMP_LAYERS_MAX: usize = 4;
/// Notes that the collector makes on one report.
pub const COLLECTOR_NOTES_MAX: usize = 100;

/// Bytes of a request head.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 100;
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 2_048;
/// The part of them that one address may have, or one /64 of IPv6: an eighth.
pub const CONNECTIONS_SHARE: usize = 8;
/// Connections are short when so many of so many are open: time-outs are tighter then.
pub const CONNECTIONS_SHORT: (usize, usize) = (3, 4);
/// Descriptors that the process needs beside its connections.
pub const DESCRIPTORS_BESIDE: u64 = 512;
/// Seconds for a whole request head to arrive, and the same while connections are short.
pub const HEAD_SECONDS_MAX: u64 = 10;
pub const HEAD_SECONDS_MAX_SHORT: u64 = 3;
/// Seconds between two pieces of a body.
pub const BODY_IDLE_SECONDS_MAX: u64 = 20;
/// Bytes a second at which a body must come on average, once [`BODY_GRACE_SECONDS`] have gone by.
pub const BODY_RATE: u64 = 8 * 1024;
pub const BODY_GRACE_SECONDS: u64 = 30;
/// The same while connections are short.
pub const BODY_RATE_SHORT: u64 = 32 * 1024;
pub const BODY_GRACE_SECONDS_SHORT: u64 = 5;
/// Seconds between two pieces of an answer that a client takes.
pub const ANSWER_IDLE_SECONDS_MAX: u64 = 30;
/// Bytes of a body that is no crash report.
pub const SMALL_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Inflated bytes that any body may have, whatever its ratio.
pub const INFLATE_FREE_BYTES: u64 = 1024 * 1024;

/// Uploads of symbols that come in at once: each takes room on disk until it is unpacked.
pub const UPLOADS_MAX: usize = 16;
/// Uploads of symbols that are unpacked at once.
pub const UPLOADS_UNPACKED_MAX: usize = 8;
/// Seconds that an upload waits for the place of a slower one to be free.
pub const UPLOAD_PLACE_SECONDS_MAX: u64 = 5;
/// Files in one archive of symbols.
pub const UPLOAD_ENTRIES_MAX: usize = 10_000;
/// Texts beside the files of one form with symbols.
pub const UPLOAD_FIELDS_MAX: usize = 64;
/// Bytes of one such text.
pub const UPLOAD_FIELD_BYTES_MAX: usize = 4 * 1024;

/// Jobs in one request for the names of addresses, as Eliot bounds it.
pub const SYMBOLICATE_JOBS_MAX: usize = 10;
/// Modules of one such job.
pub const SYMBOLICATE_MODULES_MAX: usize = 1_000;
/// Stacks in one such request.
pub const SYMBOLICATE_STACKS_MAX: usize = 1_000;
/// Frames in one such request.
pub const SYMBOLICATE_FRAMES_MAX: usize = 20_000;

/// Crash ids in one request for reprocessing.
pub const REPROCESS_IDS_MAX: usize = 10_000;
/// Bytes that are kept of what a crash was named by. A larger one is read from its report whenever
/// it is named again.
pub const SIGNATURE_INPUT_BYTES_MAX: usize = 64 * 1024;
/// Crashes in one request for their signatures.
pub const SIGNATURE_JOBS_MAX: usize = 1_000;
/// Characters of what is said about a change.
pub const COMMENT_CHARS_MAX: usize = 500;
/// Modules without symbols that are remembered of one crash.
pub const LACKED_MAX: usize = 300;
/// Bytes of such a module's name.
pub const LACKED_NAME_BYTES_MAX: usize = 300;
/// Bytes of what one walk may answer: about 50,000 frames.
pub const WALK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of an address of a bug.
pub const BUG_URL_BYTES_MAX: usize = 2_000;
/// Bytes of an address under which a bug is filed: servers refuse request lines of 8 KiB.
pub const BUG_LINK_BYTES_MAX: usize = 7_000;
/// Bytes of a signature that a bug is attached to; four for each character that one can have.
pub const BUG_SIGNATURE_BYTES_MAX: usize = 1_020;
/// Signatures that one bug's field names.
pub const BUG_SIGNATURES_MAX: usize = 1_000;
/// Characters of a bug's summary, status and resolution, each.
pub const BUG_TEXT_CHARS_MAX: usize = 500;
/// Signatures or bugs in one request to the API.
pub const BUGS_ASKED_MAX: usize = 1_000;

/// Bytes of an answer that we asked another server for.
pub const OUTBOUND_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Seconds for a connection to another server.
pub const OUTBOUND_CONNECT_SECONDS_MAX: u64 = 5;
/// Seconds for the whole answer of another server.
pub const OUTBOUND_SECONDS_MAX: u64 = 20;
/// Redirects that are followed for one file.
pub const OUTBOUND_REDIRECTS_MAX: usize = 3;

/// Bytes of a memory report that processing reads, as it came and inflated.
pub const MEMORY_REPORT_BYTES_MAX: u64 = 8 * 1024 * 1024;
pub const MEMORY_REPORT_INFLATED_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Products that pages and answers list, those with the most crashes. Clients choose their names.
pub const PRODUCTS_MAX: usize = 200;
/// Versions of one product in one answer, those with the most crashes.
pub const VERSIONS_MAX: usize = 1_000;
/// Rows of an answer that counts reports by rule, product and version.
pub const THROTTLE_COUNTS_MAX: usize = 10_000;
/// Parameters of one search, with the conditions in its search box.
pub const QUERY_PARAMS_MAX: usize = 500;
/// Results of one search.
pub const RESULTS_NUMBER_MAX: usize = 1_000;
/// How far results can be paged through.
pub const RESULTS_END_MAX: usize = 10_000;
/// Values listed for one facet.
pub const FACETS_SIZE_MAX: usize = 10_000;
/// Bytes of a gzipped multipart body inside of a part that are read for its texts.
pub const NESTED_BYTES_MAX: u64 = 256 << 20;
/// Facets of one search, nested ones included.
pub const FACETS_MAX: usize = 100;
/// Facets inside facets.
pub const FACET_DEPTH_MAX: usize = 4;
/// Seconds of one search.
pub const SEARCH_SECONDS_MAX: u64 = 10;
/// Bytes that one search may hold of what it counts, sorts and answers.
pub const SEARCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same for all searches that run at once, beside what each may always hold.
pub const SEARCHES_BYTES_MAX: usize = 4 * SEARCH_BYTES_MAX;
/// Bytes that a search may hold however many others there are.
pub const SEARCH_BYTES_FREE: usize = 1024 * 1024;
/// Distinct values that are counted exactly; of more the answer is an estimate with its error.
pub const UNIQUE_EXACT_MAX: usize = 100_000;
/// Fields that results are sorted by.
pub const SORTS_MAX: usize = 3;
/// Days of one search.
pub const DATE_RANGE_DAYS_MAX: i64 = 365;
/// Bytes of a compiled regular expression.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all of one search.
pub const REGEXES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Different regular expressions of one search, texts with wildcards among them.
pub const REGEXES_MAX: usize = 100;
/// Words and phrases of one full-text search.
pub const TEXT_CLAUSES_MAX: usize = 50;

/// Bytes of one value in the index; what is longer is cut there, never in the store.
pub const INDEX_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an annotation in the index that is no field.
pub const INDEX_ANNOTATION_BYTES_MAX: usize = 512;
/// Bytes of one field that the full-text search knows.
pub const INDEX_TEXT_BYTES_MAX: usize = 32 * 1024;
/// Values of one field of one crash in the index.
pub const INDEX_VALUES_MAX: usize = 1_000;
/// Distinct annotations in the index that are no fields: each costs columns in every part of it.
pub const INDEX_ANNOTATION_KEYS_MAX: usize = 500;

/// Tokens of one account.
pub const TOKENS_PER_USER_MAX: usize = 100;
