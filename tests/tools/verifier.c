// SPDX-License-Identifier: Apache-2.0
/*
 * What the running kernel's verifier makes of every program of every plan that it grants: instructions of the program
 * and instructions that the verifier went through, of the million that it allows (BPF_COMPLEXITY_LIMIT_INSNS,
 * include/linux/bpf.h). One line per program; --max prints only the worst of each plan.
 *
 *	verifier [--max]
 *
 * Exit code: 0, or 1 if a program of a granted plan is refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "user/base/log.h"
#include "user/loader/programs.h"

#define LIMIT 1000000
#define LOG_STATS 4 /* BPF_LOG_STATS, include/linux/bpf_verifier.h: totals only */
#define LOG_SIZE 65536
#define PROGRAMS_MAX 128

struct row {
	char name[64];
	char log[LOG_SIZE];
	size_t insns;
	unsigned long walked;
};

static struct row rows[PROGRAMS_MAX];

static unsigned long walked(const char *log)
{
	const char *at = strstr(log, "processed ");

	return at ? strtoul(at + strlen("processed "), NULL, 10) : 0;
}

static void print_row(const char *plan, const struct row *r)
{
	printf("%-8s %-26s %8zu %9lu %7.1f %%\n", plan, r->name, r->insns, r->walked, 100.0 - 100.0 * r->walked / LIMIT);
}

static int try_plan(enum plan plan, const struct features *f, bool worst_only)
{
	/* Options are constants for the verifier: with those that have it walk more. */
	static const uint64_t ports[65536 / 64];
	static const struct loader_opts opts = { .capture = WS_CAPTURE_MAX, .ring_size = 1 << 20, .max_connections = 1024,
						 .work_events = true, .ports = ports };
	struct bpf_program *prog;
	struct row *worst = NULL;
	struct programs p;
	int n = 0, err;

	err = programs__open(&p, plan, f);
	if (!err)
		err = programs__configure(&p, &opts);
	if (!err) {
		bpf_object__for_each_program(prog, p.obj) {
			if (!bpf_program__autoload(prog) || n == PROGRAMS_MAX)
				continue;
			snprintf(rows[n].name, sizeof(rows[n].name), "%s", bpf_program__name(prog));
			rows[n].log[0] = '\0';
			bpf_program__set_log_level(prog, LOG_STATS);
			bpf_program__set_log_buf(prog, rows[n].log, LOG_SIZE);
			n++;
		}
		err = programs__load(&p);
	}
	for (int i = 0; i < n; i++) {
		prog = bpf_object__find_program_by_name(p.obj, rows[i].name);
		rows[i].insns = bpf_program__insn_cnt(prog);
		rows[i].walked = walked(rows[i].log);
		if (!worst || rows[i].walked > worst->walked)
			worst = &rows[i];
		if (!worst_only && !err)
			print_row(plan__name(plan), &rows[i]);
	}
	if (!err && worst_only && worst)
		print_row(plan__name(plan), worst);
	if (err)
		printf("%-8s REFUSED: %s\n", plan__name(plan), strerror(-err));
	programs__close(&p);
	return err;
}

int main(int argc, char **argv)
{
	bool worst_only = argc > 1 && !strcmp(argv[1], "--max");
	struct utsname u;
	struct features f;
	enum feature why;
	int failed = 0;

	log__level = LOG_LVL_ERROR;
	features__probe(&f);
	uname(&u);
	printf("kernel %s, programs %s\n%-8s %-26s %8s %9s %9s\n", u.release, f.legacy ? "legacy" : "current", "PLAN", "PROGRAM",
	       "INSNS", "WALKED", "MARGIN");
	for (enum plan p = PLAN_NONE + 1; p < __PLAN_CNT; p++) {
		if (!features__plan_ok(&f, p, &why))
			printf("%-8s not granted: %s\n", plan__name(p), feature__name(why));
		else if (try_plan(p, &f, worst_only))
			failed = 1;
	}
	return failed;
}
