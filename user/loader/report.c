// SPDX-License-Identifier: Apache-2.0
#include "user/loader/report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "user/base/clock.h"

/* struct stats beside its rows, by name. */
#define COUNTERS(X)                                                                                       \
	X(requests) X(traces) X(undescribed) X(parents_proven) X(parents_remote) X(roots) X(ambiguous) X(evicted) X(gap_bytes) \
	X(fault_events) X(unseen_events) X(stopped_events) X(skipped_events) X(missed_probes)             \
	X(kernel_runs) X(kernel_run_ns) X(kernel_bytes)                                                    \
	X(contexts_seen) X(contexts_unseen) X(contexts_differ) X(tls_opaque) X(acked_batches) X(export_retries)   \
	X(recorded) X(recording_lost)

static const struct {
	const char *name;
	size_t offset;
} counters[] = {
#define X(f) { #f, offsetof(struct stats, f) },
	COUNTERS(X)
#undef X
};
#define COUNTERS_CNT (sizeof(counters) / sizeof(counters[0]))
_Static_assert(sizeof(struct stats) == sizeof(((struct stats *)0)->rows) + COUNTERS_CNT * sizeof(uint64_t),
	       "a counter of struct stats is missing in COUNTERS");

/* Left out because somebody wanted it: no loss. */
static bool is_wanted(enum stats_reason r)
{
	return r == DROP_UNSELECTED || r == DROP_TELEMETRY || r == DROP_RECEIVER || r == DROP_PATH_EXCLUDED ||
	       r == DROP_SAMPLED_OUT;
}

/* Start of the process, near enough: uptime of an instance that is asked. */
static uint64_t loaded_ns;

__attribute__((constructor)) static void note_start(void)
{
	loaded_ns = clock__mono_ns();
}

/* VmHWM: ru_maxrss survives exec, so it can be that of whoever started us. */
static uint64_t peak_rss(void)
{
	FILE *in = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[128];

	if (!in)
		return 0;
	while (fgets(line, sizeof(line), in))
		if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
			break;
	fclose(in);
	return kib * 1024;
}

uint64_t report__cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void read_usage(struct report *r)
{
	r->cpu_ns = report__cpu_ns();
	r->rss_peak = peak_rss();
}

static uint64_t *counter(const struct stats *st, size_t i)
{
	return (uint64_t *)(void *)((char *)st + counters[i].offset);
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

static int append_row(struct dynbuf *out, const struct stats *st, enum stats_stage s)
{
	const struct stats_row *row = &st->rows[s];
	const char *sep = "";
	int err;

	err = dynbuf__printf(out, "%s{\"stage\":\"%s\",\"unit\":\"%s\",\"in\":%" PRIu64 ",\"out\":%" PRIu64
				  ",\"held\":%" PRId64 ",\"dropped\":{",
			     s ? "," : "", stats__stage_name(s), stats__stage_unit(s), load(&row->in), load(&row->out),
			     __atomic_load_n(&row->held, __ATOMIC_RELAXED));
	for (int d = 0; d < __DROP_CNT && !err; d++) {
		uint64_t n = load(&row->dropped[d]);

		if (!n)
			continue;
		err = dynbuf__printf(out, "%s\"%s\":%" PRIu64, sep, stats__reason_name(d), n);
		sep = ",";
	}
	return err ? err : dynbuf__append_str(out, "}}");
}

int report__json(struct dynbuf *out, const struct stats *st)
{
	struct report r = { 0 };
	int err;

	read_usage(&r);
	err = dynbuf__printf(out, "{\"version\":\"" WS_VERSION "\",\"pid\":%d,\"uptime_ms\":%" PRIu64 ",\"cpu_ms\":%" PRIu64
				  ",\"rss_peak_kib\":%" PRIu64 ",\"balanced\":%s,\"stages\":[",
			     getpid(), (clock__mono_ns() - loaded_ns) / 1000000, r.cpu_ns / 1000000, r.rss_peak / 1024,
			     stats__check(st, NULL) ? "true" : "false");
	for (int s = 0; s < __ST_CNT && !err; s++)
		err = append_row(out, st, s);
	if (!err)
		err = dynbuf__append_str(out, "],\"counters\":{");
	for (size_t i = 0; i < COUNTERS_CNT && !err; i++)
		err = dynbuf__printf(out, "%s\"%s\":%" PRIu64, i ? "," : "", counters[i].name, load(counter(st, i)));
	return err ? err : dynbuf__append_str(out, "}}\n");
}

static uint64_t get_number(const json_t *object, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(object, key));

	return v > 0 ? (uint64_t)v : 0;
}

static void parse_row(struct stats *st, const json_t *o)
{
	const char *name = json_string_value(json_object_get(o, "stage"));
	const json_t *dropped = json_object_get(o, "dropped");

	for (int s = 0; name && s < __ST_CNT; s++) {
		if (strcmp(name, stats__stage_name(s)) != 0)
			continue;
		st->rows[s].in = get_number(o, "in");
		st->rows[s].out = get_number(o, "out");
		st->rows[s].held = json_integer_value(json_object_get(o, "held"));
		for (int d = 0; d < __DROP_CNT; d++)
			st->rows[s].dropped[d] = get_number(dropped, stats__reason_name(d));
	}
}

int report__parse(struct report *r, const char *json, size_t len)
{
	json_error_t why;
	json_t *root = json_loadb(json, len, 0, &why), *rows;
	const char *version;

	if (!root)
		return json_error_code(&why) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	rows = json_object_get(root, "stages");
	version = json_string_value(json_object_get(root, "version"));
	if (!json_is_array(rows) || !version) {
		json_decref(root);
		return -EBADMSG;
	}
	memset(r, 0, sizeof(*r));
	snprintf(r->version, sizeof(r->version), "%s", version);
	for (char *p = r->version; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
	}
	r->pid = get_number(root, "pid");
	r->uptime_ns = get_number(root, "uptime_ms") * 1000000;
	r->cpu_ns = get_number(root, "cpu_ms") * 1000000;
	r->rss_peak = get_number(root, "rss_peak_kib") * 1024;
	for (size_t i = 0; i < json_array_size(rows); i++)
		parse_row(&r->st, json_array_get(rows, i));
	for (size_t i = 0; i < COUNTERS_CNT; i++)
		*counter(&r->st, i) = get_number(json_object_get(root, "counters"), counters[i].name);
	json_decref(root);
	return 0;
}

/* ---- text ---------------------------------------------------------------------------------------- */

/* 1234567 as "1,234,567", whatever the locale. */
struct number {
	char text[32];
};

static struct number format_number(uint64_t v)
{
	struct number n;
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, v), at = 0;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			n.text[at++] = ',';
		n.text[at++] = digits[i];
	}
	n.text[at] = 0;
	return n;
}
#define NUM(v) (format_number(v).text)

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static uint64_t sum_drops(const struct stats *st, bool wanted)
{
	uint64_t sum = 0;

	for (int s = 0; s < __ST_CNT; s++) {
		for (int r = 0; r < __DROP_CNT; r++)
			sum += is_wanted(r) == wanted ? load(&st->rows[s].dropped[r]) : 0;
	}
	return sum;
}

static void print_drops(FILE *out, const struct stats *st, bool wanted)
{
	if (!sum_drops(st, wanted))
		return;
	fputs(wanted ? "Left out as asked:\n" : "Dropped:\n", out);
	for (int s = 0; s < __ST_CNT; s++) {
		for (int r = 0; r < __DROP_CNT; r++) {
			uint64_t n = load(&st->rows[s].dropped[r]);

			if (!n || is_wanted(r) != wanted)
				continue;
			fprintf(out, "  %-8s %s: %s %s%s%s\n", stats__stage_name(s), stats__reason_text(r), NUM(n),
				stats__stage_unit(s), stats__reason_hint(r) && !wanted ? " · " : "",
				stats__reason_hint(r) && !wanted ? stats__reason_hint(r) : "");
		}
	}
}

static void print_parents(FILE *out, const struct stats *st)
{
	fprintf(out, "Parents: %s proven, ", NUM(load(&st->parents_proven)));
	if (load(&st->parents_remote))
		fprintf(out, "%s on other nodes, ", NUM(load(&st->parents_remote)));
	fprintf(out, "%s root%s, %s ambiguous.\n", NUM(load(&st->roots)), plural(load(&st->roots)),
		NUM(load(&st->ambiguous)));
}

static void print_cost(FILE *out, const struct report *r)
{
	const struct stats *st = &r->st;
	uint64_t runs = load(&st->kernel_runs), events = load(&st->rows[ST_KERNEL].in);

	fprintf(out, "Cost: %.1f %% of one core, %" PRIu64 " MiB",
		r->uptime_ns ? 100.0 * (double)r->cpu_ns / (double)r->uptime_ns : 0.0, (r->rss_peak + (1 << 19)) >> 20);
	/* The kernel times its programs only while kernel.bpf_stats_enabled is set. */
	if (runs)
		fprintf(out, ", %.2f µs per socket event", (double)load(&st->kernel_run_ns) / (double)runs / 1000);
	fprintf(out, " (%s event%s).\n", NUM(events), plural(events));
}

/* Holes in what was seen, which are no events of their own. */
static void print_gaps(FILE *out, const struct stats *st)
{
	uint64_t bytes = load(&st->gap_bytes), faults = load(&st->fault_events), unseen = load(&st->unseen_events);

	if (load(&st->missed_probes))
		fprintf(out, "Missed probes: %s: the kernel did not run a program that was due.\n",
			NUM(load(&st->missed_probes)));
	if (bytes)
		fprintf(out, "Gaps: %s byte%s of messages not seen.\n", NUM(bytes), plural(bytes));
	if (faults || unseen)
		fprintf(out, "Not captured: %s unreadable and %s hidden transfers (io_uring, sendfile, splice).\n", NUM(faults),
			NUM(unseen));
}

static void print_opaque(FILE *out, const struct stats *st)
{
	uint64_t n = load(&st->tls_opaque);

	if (n)
		fprintf(out, "Encrypted: %s connection%s by TLS libraries that are not read inside.\n", NUM(n), plural(n));
}

static void print_undescribed(FILE *out, const struct stats *st)
{
	uint64_t n = load(&st->undescribed);

	if (n)
		fprintf(out, "Not described: %s span%s left before anything but a name was known of their process: it had "
			     "ended, or the machine was too busy to ask.\n", NUM(n), plural(n));
}

static void print_evicted(FILE *out, const struct stats *st)
{
	uint64_t n = load(&st->evicted);

	if (n)
		fprintf(out, "Evicted: %s open connection%s, idle longest, to make room: requests under way there are unfinished, "
			     "later ones go without their peer · raise --max-connections\n", NUM(n), plural(n));
}

static void print_recording(FILE *out, const struct stats *st)
{
	uint64_t n = load(&st->recorded), lost = load(&st->recording_lost);

	if (n || lost)
		fprintf(out, "Recorded: %s event%s, %s lost%s\n", NUM(n), plural(n), NUM(lost),
			lost ? ": record to a faster disk, or one with more room." : ".");
}

static void print_balance(FILE *out, const struct stats *st)
{
	enum stats_stage s;

	if (stats__check(st, &s))
		return;
	fprintf(out, "The books of %s do not balance: in %s, out %s, held %" PRId64 ", dropped %s.\n", stats__stage_name(s),
		NUM(load(&st->rows[s].in)), NUM(load(&st->rows[s].out)), st->rows[s].held, NUM(stats__dropped(st, s)));
}

/* Of what was lost on the way out nobody has kept whose trace it was. */
static bool all_exported(const struct stats *st)
{
	return !stats__dropped(st, ST_BATCH) && !stats__dropped(st, ST_EXPORT);
}

void report__end(FILE *out, const struct stats *st, const char *done, uint64_t elapsed_ns, uint64_t cpu_before_ns)
{
	struct report r = { .st = *st, .uptime_ns = elapsed_ns };
	uint64_t requests = load(&st->requests), spans = load(&st->rows[ST_EXPORT].out), traces = load(&st->traces);

	read_usage(&r);
	r.cpu_ns -= cpu_before_ns;
	fprintf(out, "%s request%s seen, %s span%s %s", NUM(requests), plural(requests), NUM(spans), plural(spans),
		done);
	if (traces && spans && all_exported(st))
		fprintf(out, " in %s trace%s", NUM(traces), plural(traces));
	fprintf(out, ", %s dropped.\n", NUM(sum_drops(st, false)));
	print_parents(out, st);
	if (elapsed_ns)
		print_cost(out, &r);
	print_gaps(out, st);
	print_opaque(out, st);
	print_undescribed(out, st);
	print_evicted(out, st);
	print_recording(out, st);
	print_drops(out, st, false);
	print_drops(out, st, true);
	print_balance(out, st);
	fflush(out);
}

void report__text(FILE *out, const struct report *r)
{
	const struct stats *st = &r->st;
	double seconds = (double)r->uptime_ns / 1e9;

	fprintf(out, "wirespan %s, pid %" PRIu64 ", up %.0f s, %.1f events per second\n\n", r->version, r->pid, seconds,
		seconds > 0 ? (double)load(&st->rows[ST_KERNEL].in) / seconds : 0.0);
	fprintf(out, "%-8s %-10s %15s %15s %10s %12s\n", "STAGE", "UNIT", "IN", "OUT", "HELD", "DROPPED");
	for (int s = 0; s < __ST_CNT; s++) {
		fprintf(out, "%-8s %-10s %15s %15s %10" PRId64 " %12s\n", stats__stage_name(s), stats__stage_unit(s),
			NUM(load(&st->rows[s].in)), NUM(load(&st->rows[s].out)), st->rows[s].held,
			NUM(stats__dropped(st, s)));
	}
	fputc('\n', out);
	print_drops(out, st, false);
	print_drops(out, st, true);
	print_parents(out, st);
	print_cost(out, r);
	print_gaps(out, st);
	print_opaque(out, st);
	print_undescribed(out, st);
	print_evicted(out, st);
	print_recording(out, st);
	fflush(out);
}
