//! The list of fields: one line per field, in the order in which pages show them.
//!
//! ```text
//! kind name [= key of the processed crash] [<- annotation] [flags] [in "unit"] "title" "description" [eg "example"];
//! ```
//!
//! Without `= key`, the key is the name. Without `<- annotation`, processing computes the value (only
//! `installation` is computed when a crash is indexed). Flags: `public` (otherwise protected), `text`
//! (included in the full-text search), `split` (a list joined by `;`), `nofacet`, `nosort`, `column` (offered
//! as a result column), `form` (offered in the search form). Names and kinds are Socorro's, so that its links
//! keep their meaning.

use std::borrow::Cow::Borrowed;

use super::field::{Field, Flags, Kind, Source, Visibility};

macro_rules! catalogue {
    ($($kind:ident $name:ident $(= $key:ident)? $(<- $annotation:literal)? [$($flag:ident)*]
        $(in $unit:literal)? $title:literal $description:literal $(eg $example:literal)? ;)*) => {
        &[$(Field {
            name: Borrowed(stringify!($name)),
            key: Borrowed(catalogue!(@key $name $($key)?)),
            title: Borrowed($title),
            kind: Kind::$kind,
            unit: catalogue!(@opt $($unit)?),
            source: catalogue!(@source $name ; $($annotation)?),
            visibility: catalogue!(@visibility $($flag)*),
            description: Borrowed($description),
            example: catalogue!(@opt $($example)?),
            flags: Flags::NONE $(.with(stringify!($flag)))*,
        }),*]
    };
    (@key $name:ident) => { stringify!($name) };
    (@key $name:ident $key:ident) => { stringify!($key) };
    (@opt) => { None };
    (@opt $text:literal) => { Some(Borrowed($text)) };
    (@source installation ;) => { Source::Installation };
    (@source $name:ident ;) => { Source::Processed };
    (@source $name:ident ; $annotation:literal) => { Source::Annotation(Borrowed($annotation)) };
    (@visibility public $($rest:ident)*) => { Visibility::Public };
    (@visibility $($rest:ident)*) => { Visibility::Protected };
}

pub(crate) const FIELDS: &[Field] = catalogue! {
    // What and when.
    String uuid = crash_id [public nofacet column form] "Crash id" "Id of the crash; the last six digits are the date of receipt" eg "5c3f1b52-9a0e-4d1f-8a77-2f10c0261122";
    Date date = date_processed [public column form] "Date" "When the collector received the crash" eg "2026-11-22T09:12:44.123Z";
    String signature [public text column form] "Signature" "Text that groups crashes with the same cause" eg "mozilla::dom::Promise::Settle";
    String proto_signature [public text column form] "Proto signature" "All functions of the crashing stack, joined by |; the signature is a part of this" eg "abort | foo::bar | main";
    Enum product <- "ProductName" [public text column form] "Product" "Name of the crashed program" eg "Firefox";
    Version version <- "Version" [public column form] "Version" "Version of the crashed program" eg "145.0.1";
    Integer major_version [public column form] "Major version" "Number before the first dot of the version; 0 if there is none" eg "145";
    Enum release_channel <- "ReleaseChannel" [public column form] "Release channel" "Channel on which the build was released" eg "beta";
    Version build_id = build <- "BuildID" [public column form] "Build id" "Date and time of the build as one number, or another id of the build" eg "20261101093000";
    String application_build_id <- "ApplicationBuildID" [public column form] "Application build id" "Build id of the application around the engine";
    Enum vendor <- "Vendor" [public column form] "Vendor" "Vendor of the program" eg "Mozilla";
    Enum productid <- "ProductID" [public column form] "Product id" "Id of the product" eg "{ec8030f7-c20a-464f-9b0e-13a3a9e97384}";
    Enum process_type [public column form] "Process type" "Type of the process that crashed; parent for the main process" eg "content";
    Enum state [public column form] "State" "processed, failed or deferred (stored, but not processed because of a throttle rule); a search finds deferred crashes only if it has a condition on the state" eg "processed";
    Enum report_type [public column form] "Report type" "crash or hang" eg "crash";
    Enum throttle_rule [public column form] "Throttle rule" "Throttle rule that accepted the report" eg "default";
    Date submitted_timestamp [public nofacet column] "Submitted" "When the collector received the crash";
    Date started_datetime [public nofacet column] "Processing started" "When the last processing started";
    Date completed_datetime [public nofacet column] "Processing completed" "When the last processing ended";

    // What happened.
    String reason [public text column form] "Crash reason" "Exception or signal" eg "EXCEPTION_ACCESS_VIOLATION_READ";
    String reason_text [public text column form] "Crash reason in words" "What the crash reason means, with the details that the dump has" eg "a C++ exception (Visual C++) of type std::runtime_error";
    Address address [public column form] "Crash address" "Address in the exception record" eg "0x0000000000000010";
    Enum verdict [public column form] "Verdict" "Set if the crash is probably not a bug of the program: hardware, bit-flip, crash-loop, system-memory, driver or foreign-module" eg "driver";
    String verdict_evidence [public text column form] "Evidence of the verdict" "Why the crash is probably not a bug of the program" eg "the crash is in the driver nvoglv64.dll";
    String abort_message <- "AbortMessage" [public text column form] "Abort message" "Message of the program when it aborted";
    String moz_crash_reason [public text column form] "Assertion" "Text of the failed assertion, without user data" eg "MOZ_RELEASE_ASSERT(aIndex < mLength)";
    String moz_crash_reason_raw [text column] "Assertion as sent" "Text of the failed assertion, as the client sent it";
    String last_error_value [public column form] "Last error value" "Last error code of the crashing thread (Windows)" eg "ERROR_SUCCESS";
    Bool startup_crash <- "StartupCrash" [public column form] "Startup crash" "The program crashed during startup" eg "true";
    Integer crashing_thread [public column form] "Crashing thread" "Number of the thread that crashed, from 0";
    String crashing_thread_name [public column form] "Crashing thread name" "Name of the thread that crashed" eg "GeckoMain";
    Integer thread_count [public column form] "Threads" "Threads in the dump";
    String modules_in_stack [public split text column form] "Modules in stack" "Modules of the crashing stack, each as file/debug id" eg "xul.pdb/1F2C3D4E5A6B7C8D9E0F1A2B3C4D5E6F1";
    String missing_symbols [public split text column form] "Missing symbols" "Modules without symbols, each as file/version/debug id";
    String topmost_filenames [public split text column form] "Topmost files" "Topmost source file of the crashing stack" eg "dom/base/nsINode.cpp";
    String crash_inconsistencies [public column form] "Inconsistencies" "Signs of a hardware problem";
    Integer possible_bit_flips_max_confidence [public column form] in "%" "Bit flip confidence" "Confidence that a single flipped bit explains the crash address";
    Bool has_guard_page_access [column form] "Guard page access" "The crashing instruction accessed a guard page";
    String user_comments <- "Comments" [nofacet text column form] "User comments" "Comment of the user";
    String url <- "URL" [text column form] "URL" "URL of the open page";
    String url_page [column form] "Page" "URL of the open page, without query and fragment" eg "https://example.org/a/b";
    String url_domain [column form] "Domain" "Host of the open page" eg "example.org";
    String hang <- "Hang" [public column form] "Hang" "Set if the report is about a hang";
    String app_notes <- "Notes" [public nofacet text column form] "App notes" "Notes that the program wrote while it ran";
    String java_stack_trace [public nofacet text column form] "Java stack trace" "Stack of the Java exception, without its messages";
    String java_stack_trace_raw [nofacet text column] "Java stack trace as sent" "Stack of the Java exception, as the client sent it";
    Integer oom_allocation_size <- "OOMAllocationSize" [public column form] in "bytes" "Failed allocation" "Size of the allocation that failed";
    String js_large_allocation_failure <- "JSLargeAllocationFailure" [public column form] "JS allocation failure" "Result of a failed large allocation in the JavaScript engine";
    String phc_kind <- "PHCKind" [column form] "PHC kind" "Type of the error found by the probabilistic heap checker";
    Address phc_base_address [column] "PHC base address" "Start of the checked allocation";
    Integer phc_usable_size <- "PHCUsableSize" [column form] in "bytes" "PHC usable size" "Size of the checked allocation";
    String phc_alloc_stack <- "PHCAllocStack" [nofacet column] "PHC allocation stack" "Addresses of the stack that allocated the memory";
    String phc_free_stack <- "PHCFreeStack" [nofacet column] "PHC free stack" "Addresses of the stack that freed the memory";

    // The machine.
    Enum platform = os_name [public column form] "Platform" "Operating system" eg "Windows NT";
    String platform_version = os_version [public column form] "Platform version" "Version of the operating system" eg "10.0.26100";
    String platform_pretty_version = os_pretty_version [public column form] "Platform name" "Name and version of the operating system" eg "Windows 11";
    Enum cpu_arch [public column form] "CPU architecture" "Architecture of the crashed process" eg "amd64";
    String cpu_info [public column form] "CPU info" "Family, model and stepping" eg "family 6 model 158 stepping 10";
    Integer cpu_count [public column form] "CPUs" "Number of logical processors";
    Enum cpu_microcode_version [public column form] "CPU microcode" "Version of the microcode" eg "0xf0";
    String adapter_vendor_id <- "AdapterVendorID" [public column form] "Graphics vendor" "Vendor of the graphics adapter" eg "0x8086";
    String adapter_device_id <- "AdapterDeviceID" [public column form] "Graphics device" "Device id of the graphics adapter" eg "0x3e9b";
    String adapter_driver_version <- "AdapterDriverVersion" [public column form] "Graphics driver version" "Version of the graphics driver";
    String adapter_subsys_id <- "AdapterSubsysID" [public column form] "Graphics subsystem" "Subsystem id of the graphics adapter";
    Integer total_physical_memory <- "TotalPhysicalMemory" [public column form] in "bytes" "Total memory" "Physical memory of the machine";
    Integer available_physical_memory <- "AvailablePhysicalMemory" [public column form] in "bytes" "Available memory" "Free physical memory at the time of the crash";
    Integer total_virtual_memory <- "TotalVirtualMemory" [public column form] in "bytes" "Total virtual memory" "Address space of the process";
    Integer available_virtual_memory <- "AvailableVirtualMemory" [public column form] in "bytes" "Available virtual memory" "Free address space at the time of the crash";
    Integer total_page_file <- "TotalPageFile" [public column form] in "bytes" "Total page file" "Commit limit: memory and swap";
    Integer available_page_file <- "AvailablePageFile" [public column form] in "bytes" "Available page file" "Memory and swap that can still be committed";
    Integer available_swap_memory <- "AvailableSwapMemory" [public column form] in "bytes" "Available swap" "Free swap at the time of the crash";
    Integer system_memory_use_percentage <- "SystemMemoryUsePercentage" [public column form] in "%" "Memory use" "Physical memory in use, in percent";
    Integer mac_available_memory_sysctl <- "MacAvailableMemorySysctl" [public column form] "Mac available memory" "Value of kern.memorystatus_level";
    String mac_memory_pressure <- "MacMemoryPressure" [public column form] "Mac memory pressure" "Level of memory pressure" eg "Normal";
    Integer mac_memory_pressure_sysctl <- "MacMemoryPressureSysctl" [public column form] "Mac memory pressure level" "Value of kern.memorystatus_vm_pressure_level";
    String mac_memory_pressure_normal_time <- "MacMemoryPressureNormalTime" [public column] "Mac pressure normal at" "Last time of normal memory pressure";
    String mac_memory_pressure_warning_time <- "MacMemoryPressureWarningTime" [public column] "Mac pressure warning at" "Last time when memory pressure reached the warning level";
    String mac_memory_pressure_critical_time <- "MacMemoryPressureCriticalTime" [public column] "Mac pressure critical at" "Last time when memory pressure reached the critical level";
    String mac_crash_info [public nofacet text column form] "Mac crash info" "Records of __crash_info, as JSON";
    String mac_boot_args [column form] "Mac boot arguments" "Boot arguments of the kernel";
    Bool has_mac_boot_args [public column form] "Has Mac boot arguments" "The kernel was booted with boot arguments";
    String android_version <- "Android_Version" [public column form] "Android version" "SDK level and release" eg "34 (REL)";
    String android_model <- "Android_Model" [public column form] "Android model" "Model of the device" eg "Pixel 8";
    Enum android_manufacturer <- "Android_Manufacturer" [public column form] "Android manufacturer" "Manufacturer of the device" eg "Google";
    Enum android_brand <- "Android_Brand" [public column form] "Android brand" "Brand of the device";
    Enum android_device <- "Android_Device" [public column form] "Android device" "Industrial name of the device" eg "shiba";
    Enum android_board <- "Android_Board" [public column form] "Android board" "Board of the device";
    Enum android_hardware <- "Android_Hardware" [public column form] "Android hardware" "Hardware name of the device";
    Enum android_display <- "Android_Display" [public column form] "Android display id" "Build id shown to users";
    Enum android_fingerprint <- "Android_Fingerprint" [public column form] "Android fingerprint" "Id of the system build";
    Enum android_cpu_abi <- "Android_CPU_ABI" [public column form] "Android ABI" "Preferred ABI" eg "arm64-v8a";
    Enum android_cpu_abi2 <- "Android_CPU_ABI2" [public column form] "Android second ABI" "Second ABI";
    String android_packagename <- "Android_PackageName" [public column form] "Android package" "Package name of the program" eg "org.mozilla.firefox";

    // What the process used its memory for, from its memory report.
    Integer memory_explicit [public column form] in "bytes" "Explicit memory" "Explicitly allocated memory";
    Integer memory_gfx_textures [public column form] in "bytes" "Graphics textures" "Memory used by graphics textures";
    Integer memory_ghost_windows [public column form] "Ghost windows" "Windows that should have been freed";
    Integer memory_heap_allocated [public column form] in "bytes" "Heap allocated" "Memory allocated on the heap";
    Integer memory_heap_overhead [public column form] in "bytes" "Heap overhead" "Memory used by the heap allocator itself";
    Integer memory_heap_unclassified [public column form] in "bytes" "Heap unclassified" "Heap memory without a known use";
    Integer memory_host_object_urls [public column form] "Object URLs" "Number of object URLs in use";
    Integer memory_images [public column form] in "bytes" "Images" "Memory used by images";
    Integer memory_js_main_runtime [public column form] in "bytes" "JS main runtime" "Memory of the main JavaScript runtime";
    Integer memory_private [public column form] in "bytes" "Private memory" "Memory not shared with other processes";
    Integer memory_resident [public column form] in "bytes" "Resident memory" "Memory in RAM";
    Integer memory_resident_unique [public column form] in "bytes" "Unique resident memory" "Memory in RAM, not shared with other processes";
    Integer memory_system_heap_allocated [public column form] in "bytes" "System heap" "Memory allocated on the system heap";
    Integer memory_top_none_detached [public column form] in "bytes" "Detached windows" "Memory of windows that no tab displays";
    Integer memory_vsize [public column form] in "bytes" "Address space" "Address space in use";
    Integer memory_vsize_max_contiguous [public column form] in "bytes" "Largest free block" "Largest free block of address space";
    String memory_report_error [nofacet column] "Memory report error" "Why the memory report is invalid";

    // Times.
    Integer uptime [public column form] in "s" "Uptime" "Time from the start of the process to the crash";
    Float uptime_ts <- "UptimeTS" [public column form] in "s" "Uptime (client)" "Time from the start of the process to the crash, measured by the client";
    Integer install_age [public column form] in "s" "Install age" "Time from the installation of this version to the crash";
    Integer install_time <- "InstallTime" [public column form] in "s since 1970" "Install time" "When this version was installed" eg "1795338000";
    String installation [public nosort column form] "Installation" "Hash that identifies the installation, made from the first annotation that identifies it; used to count installations" eg "5f3a9c0d12e4b678";
    Integer last_crash [public column form] in "s" "Since last crash" "Time since the previous crash of this installation";
    Integer startup_time <- "StartupTime" [public column form] in "s since 1970" "Startup time" "When the process started";
    Integer crash_time [public column form] in "s since 1970" "Crash time" "Time of the crash, by the client's clock";
    String client_crash_date [public nofacet column] "Client crash date" "Time of the crash, by the client's clock";

    // How it was sent and processed.
    Bool success [public column form] "Walked" "The dump was walked completely" eg "true";
    String mdsw_status_string [public column form] "Walk status" "OK, or the error in the dump" eg "OK";
    String stackwalk_version [public column form] "Stackwalk version" "Program that walked the dump";
    String processor_notes [public nofacet text column form] "Processor notes" "Notes of the processor, one per line";
    String crash_report_keys [public column form] "Report keys" "Names of all annotations and dumps in the report" eg "ProductName";
    String additional_minidumps [public column form] "Additional dumps" "Names of the other dumps in the report" eg "upload_file_minidump_browser";
    String minidump_sha256_hash [public column form] "Dump SHA-256" "Hash of the main dump";
    String submitted_from [public column form] "Submitted from" "Component that sent the report" eg "Client";
    Bool throttleable <- "Throttleable" [public column form] "Throttleable" "The client allows throttling of the report";
    String distribution_id [public column form] "Distribution" "Distribution of the program";
    String dumper_error <- "DumperError" [text column form] "Dumper error" "Why the client could not write a dump";
    String collector_notes [column] "Collector notes" "Notes of the collector, such as repairs of the report";
    String soft_errors [nofacet column] "Soft errors" "Errors while the client wrote the dump, as JSON";
    String signature_debug [nofacet column] "Signature steps" "Steps that generated the signature";
    Integer mdsw_return_code [column] "Walk return code" "Return code of the walker";

    // What the program was doing.
    String addons [public column form] "Add-ons" "Add-ons, each as id:version";
    Bool addons_checked [public column form] "Add-ons checked" "The compatibility of add-ons was checked";
    Bool em_check_compatibility <- "EMCheckCompatibility" [public column form] "Compatibility check" "The compatibility check of add-ons is enabled";
    String app_init_dlls <- "AppInitDLLs" [public split column form] "AppInit DLLs" "Modules that Windows loads into every process";
    Bool accessibility [public column form] "Accessibility" "Assistive technology was active";
    String accessibility_client <- "AccessibilityClient" [public column form] "Accessibility client" "Assistive program that used the accessibility interface";
    String accessibility_in_proc_client <- "AccessibilityInProcClient" [public column form] "In-process accessibility client" "Assistive module inside the process";
    Enum useragent_locale <- "useragent_locale" [public column form] "Locale" "Language of the user interface" eg "en-US";
    Bool safe_mode <- "SafeMode" [public column form] "Safe mode" "The program ran without extensions";
    String background_task_name <- "BackgroundTaskName" [public column form] "Background task" "Task that the process was started for";
    Enum remote_type <- "RemoteType" [column form] "Remote type" "Kind of content process" eg "webIsolated";
    String async_shutdown_timeout <- "AsyncShutdownTimeout" [public nofacet text column form] "Async shutdown timeout" "What blocked the shutdown, as JSON";
    String quota_manager_shutdown_timeout <- "QuotaManagerShutdownTimeout" [public nofacet text column form] "Quota manager shutdown timeout" "What blocked the shutdown of the quota manager";
    String shutdown_progress <- "ShutdownProgress" [public column form] "Shutdown progress" "Last phase of the shutdown" eg "quit-application";
    String shutdown_reason <- "ShutdownReason" [public column form] "Shutdown reason" "Why the program was shutting down" eg "AppClose";
    String xpcom_spin_event_loop_stack <- "XPCOMSpinEventLoopStack" [public column form] "Nested event loops" "Names of the nested event loops";
    String ipc_channel_error <- "ipc_channel_error" [public text column form] "IPC channel error" "Error of the IPC channel";
    String ipc_fatal_error_msg <- "IPCFatalErrorMsg" [public text column form] "IPC fatal error" "Fatal IPC error";
    String ipc_fatal_error_protocol <- "IPCFatalErrorProtocol" [public column form] "IPC fatal error protocol" "IPC protocol of the fatal error";
    String ipc_message_name <- "IPCMessageName" [public column form] "IPC message" "IPC message that was being handled";
    Integer ipc_message_size <- "IPCMessageSize" [public column form] in "bytes" "IPC message size" "Size of the message";
    Enum ipc_shutdown_state <- "IPCShutdownState" [public column form] "IPC shutdown state" "Whether the shutdown message was received";
    Integer ipc_system_error <- "IPCSystemError" [public column form] "IPC system error" "Error number of the operating system";
    String co_marshal_interface_failure <- "CoMarshalInterfaceFailure" [public column form] "COM marshal failure" "Result of CoMarshalInterface";
    String co_unmarshal_interface_result <- "CoUnmarshalInterfaceResult" [public column form] "COM unmarshal result" "Result of CoGetInterfaceAndReleaseStream";
    Integer content_sandbox_capabilities <- "ContentSandboxCapabilities" [public column form] "Sandbox capabilities" "Sandbox capabilities as a bit mask";
    Bool content_sandbox_capable <- "ContentSandboxCapable" [public column form] "Sandbox capable" "The machine supports sandboxed content processes";
    Bool content_sandbox_enabled <- "ContentSandboxEnabled" [public column form] "Sandbox enabled" "Content processes are sandboxed";
    Integer content_sandbox_level <- "ContentSandboxLevel" [public column form] "Sandbox level" "Level of the content sandbox";
    Integer utility_process_sandboxing_kind <- "UtilityProcessSandboxingKind" [public column form] "Utility sandbox kind" "Sandbox of the utility process";
    String utility_actors_name [public column form] "Utility actors" "Actors in the utility process";
    Bool dom_fission_enabled <- "DOMFissionEnabled" [public column form] "Site isolation" "Each site runs in its own process";
    Bool dom_ipc_enabled <- "DOMIPCEnabled" [public column form] "Content processes" "Content runs in separate processes";
    Bool gmp_plugin <- "GMPPlugin" [public column form] "Media plugin" "The process ran a media plugin";
    String gmp_library_path <- "GMPLibraryPath" [column form] "Media plugin path" "Path of the media plugin";
    String plugin_name [public column form] "Plugin" "Name of the plugin";
    String plugin_filename [public column form] "Plugin file" "File of the plugin";
    Version plugin_version [public column form] "Plugin version" "Version of the plugin";
    String graphics_critical_error <- "GraphicsCriticalError" [public nofacet text column form] "Graphics errors" "Log of critical graphics errors";
    Bool graphics_startup_test <- "GraphicsStartupTest" [public column form] "Graphics startup test" "The crash happened during the startup test of the graphics driver";
    Bool has_device_touch_screen <- "HasDeviceTouchScreen" [public column form] "Touch screen" "The machine has a touch screen";
    Bool is_garbage_collecting <- "IsGarbageCollecting" [public column form] "Garbage collecting" "The crash happened during garbage collection";
    Bool is_wayland <- "IsWayland" [public column form] "Wayland" "The program used Wayland";
    Bool headless_mode <- "HeadlessMode" [public column form] "Headless" "The program ran without a display";
    Integer event_loop_nesting_level <- "EventLoopNestingLevel" [public column form] "Event loop depth" "Number of nested event loops";
    Bool marionette <- "Marionette" [public column form] "Marionette" "The program was controlled by Marionette";
    Bool remote_agent <- "RemoteAgent" [public column form] "Remote agent" "The program was controlled by a remote agent";
    Bool windows_error_reporting <- "WindowsErrorReporting" [public column form] "Windows error reporting" "The crash was reported through Windows Error Reporting";
    Enum environment <- "Environment" [public column form] "Environment" "Environment in which the program ran, from Sentry clients" eg "production";
    String sentry_event_id <- "SentryEventId" [public nofacet column form] "Sentry event id" "Event id from a Sentry client" eg "5f0c1a2b3c4d5e6f708192a3b4c5d6e7";
    String sentry_tags <- "SentryTags" [split text column form] "Tags" "Tags from a Sentry client, each as key=value" eg "gpu=RTX 4090";
    String sentry_user <- "SentryUser" [nofacet text column form] "User" "User data from a Sentry client, as JSON";
    String sentry_contexts <- "SentryContexts" [nofacet nosort text] "Contexts" "Contexts from a Sentry client about the machine and the program, as JSON";
    String glean_client_id <- "GleanClientId" [column form] "Client id" "Id of the installation";
    String breadcrumbs <- "Breadcrumbs" [nofacet nosort text] "Breadcrumbs" "Events that the program recorded before the crash, as JSON";
    String java_exception <- "JavaException" [nofacet nosort] "Java exception" "The exception with its stack, as JSON";
    String telemetry_environment <- "TelemetryEnvironment" [public nofacet nosort] "Telemetry environment" "Data about the program and the machine, as JSON";
    Bool submitted_from_infobar <- "SubmittedFromInfobar" [column form] "Submitted from infobar" "The report was sent from a notification bar in the program";
};
