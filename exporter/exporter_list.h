/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every sink, one row each: EXPORTER(x) stands for `const struct exporter_ops exporter_x`, defined in its own file. It
 * is chosen by ops.name, which exporter_opts.kind must equal.
 */
EXPORTER(otlp_http)
EXPORTER(otlp_grpc)
EXPORTER(json)
EXPORTER(console)
EXPORTER(none)
