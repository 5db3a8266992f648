// SPDX-License-Identifier: Apache-2.0
/*
 * Which container is this? No runtime writes it down for others, but all of them name the cgroup after it:
 *
 *	docker		/docker/ID			/system.slice/docker-ID.scope
 *	containerd	/kubepods/burstable/podUID/ID	…/kubepods-burstable-podUID.slice/cri-containerd-ID.scope
 *			/system.slice/containerd.service/kubepods-…:cri-containerd:ID
 *	cri-o, podman	…/crio-ID.scope			…/libpod-ID.scope/container
 *	ECS		/ecs/TASK/ID			/ecs/TASK/32hex-decimal (Fargate)
 *
 * ID is 64 lower-case hex digits. The innermost one counts: that is the container that the process itself sees.
 */
#include "user/enrich/container.h"

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static size_t hex_run(const char *p, const char *end)
{
	const char *at = p;

	while (at < end && is_hex(*at))
		at++;
	return (size_t)(at - p);
}

static bool ends_with(struct str s, struct str tail)
{
	return s.len >= tail.len && memcmp(s.p + s.len - tail.len, tail.p, tail.len) == 0;
}

/* Cuts the part behind the last `sep` off *s. False: nothing was left. */
static bool cut_last(struct str *s, char sep, struct str *ret)
{
	const char *at;

	if (s->len == 0)
		return false;
	at = memrchr(s->p, sep, s->len);
	if (!at) {
		*ret = *s;
		s->len = 0;
	} else {
		*ret = (struct str){ at + 1, s->len - (size_t)(at + 1 - s->p) };
		s->len = (size_t)(at - s->p);
	}
	return true;
}

/* One component of a cgroup path: ID, PREFIX-ID, ID.scope, PREFIX-ID.scope, slice:PREFIX:ID. */
static struct str id_of_component(struct str c, bool ecs)
{
	struct str id, dashed;

	/* crio-conmon-ID.scope holds the monitor of the container, not the container. */
	if (c.len > 12 && memcmp(c.p, "crio-conmon-", 12) == 0)
		return STR_NULL;
	if (ends_with(c, STR(".scope")))
		c.len -= 6;
	if (ecs && c.len > 33 && hex_run(c.p, c.p + c.len) == 32 && c.p[32] == '-' && c.len <= CONTAINER_ID_MAX) {
		for (size_t i = 33; i < c.len; i++) {
			if (c.p[i] < '0' || c.p[i] > '9')
				return STR_NULL;
		}
		return c;
	}
	if (!cut_last(&c, ':', &dashed) || !cut_last(&dashed, '-', &id))
		return STR_NULL;
	return id.len == CONTAINER_ID_MAX && hex_run(id.p, id.p + id.len) == id.len ? id : STR_NULL;
}

static struct str id_of_path(struct str path)
{
	bool ecs = path.len > 5 && memmem(path.p, path.len, "/ecs/", 5);
	struct str component, id;

	while (cut_last(&path, '/', &component)) {
		id = id_of_component(component, ecs);
		if (id.len)
			return id;
	}
	return STR_NULL;
}

static bool next_line(struct str *text, struct str *ret)
{
	const char *nl;

	if (text->len == 0)
		return false;
	nl = memchr(text->p, '\n', text->len);
	ret->p = text->p;
	ret->len = nl ? (size_t)(nl - text->p) : text->len;
	text->p += nl ? ret->len + 1 : ret->len;
	text->len -= nl ? ret->len + 1 : ret->len;
	return true;
}

struct str container__id_of_cgroup(struct str text)
{
	struct str line, id;

	while (next_line(&text, &line)) {
		/* cgroups(7): hierarchy:controllers:path; the path may hold further colons */
		const char *at = memchr(line.p, ':', line.len);

		if (at)
			at = memchr(at + 1, ':', line.len - (size_t)(at + 1 - line.p));
		if (!at)
			continue;
		id = id_of_path((struct str){ at + 1, line.len - (size_t)(at + 1 - line.p) });
		if (id.len)
			return id;
	}
	return STR_NULL;
}

static struct str field(struct str line, int n)
{
	const char *at = line.p, *end = line.p + line.len, *sp;

	for (; at < end; at = sp + 1) {
		sp = memchr(at, ' ', (size_t)(end - at));
		if (!sp)
			sp = end;
		if (n-- == 0)
			return (struct str){ at, (size_t)(sp - at) };
	}
	return STR_NULL;
}

/* "…/containers/ID/hostname", "…/overlay-containers/ID/userdata/hosts". */
static struct str id_behind(struct str path, struct str dir)
{
	const char *at = memmem(path.p, path.len, dir.p, dir.len);
	const char *end = path.p + path.len;

	if (!at)
		return STR_NULL;
	at += dir.len;
	if (hex_run(at, end) != CONTAINER_ID_MAX || at + CONTAINER_ID_MAX >= end || at[CONTAINER_ID_MAX] != '/')
		return STR_NULL;
	return (struct str){ at, CONTAINER_ID_MAX };
}

/*
 * proc(5): id parent major:minor root mountpoint … Only mounts that a runtime makes *for* a container are asked: the
 * host itself, too, sees directories that are named after containers.
 */
struct str container__id_of_mountinfo(struct str text)
{
	struct str line;

	while (next_line(&text, &line)) {
		struct str root = field(line, 3), point = field(line, 4), id = STR_NULL;

		if (str__eq(point, STR("/etc/hostname")) || str__eq(point, STR("/etc/hosts")) ||
		    str__eq(point, STR("/etc/resolv.conf"))) {
			id = id_behind(root, STR("/containers/"));
			if (!id.len)
				id = id_behind(root, STR("/overlay-containers/"));
		} else if (point.len >= 14 && memcmp(point.p, "/sys/fs/cgroup", 14) == 0) {
			id = id_of_path(root);
		}
		if (id.len)
			return id;
	}
	return STR_NULL;
}
