// SPDX-License-Identifier: Apache-2.0
#include "user/model/error_type.h"

#include <errno.h>

const char *error_type__of_errno(int err)
{
	switch (err) {
	case ECONNREFUSED:
	case ENOENT: /* AF_UNIX: no such path */
		return "refused";
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
		return "reset";
	case ETIMEDOUT:
		return "timeout";
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "unreachable";
	default:
		return "_OTHER";
	}
}
