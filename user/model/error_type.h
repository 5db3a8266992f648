/* SPDX-License-Identifier: Apache-2.0 */
/* error.type for what a socket call can answer: few, short, stable names. */
#ifndef WS_MODEL_ERROR_TYPE_H
#define WS_MODEL_ERROR_TYPE_H

/* For a positive errno; "_OTHER" where there is no name. Static. */
const char *error_type__of_errno(int err);

#endif
