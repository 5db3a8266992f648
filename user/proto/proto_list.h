/* SPDX-License-Identifier: Apache-2.0 */
/* One line per protocol; the order is the order of detection. */
PROTO(http1)
