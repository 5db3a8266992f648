# SPDX-License-Identifier: Apache-2.0
"""service1: checks site one."""
from checker import make_app

app = make_app("/check-one", "site-one")
