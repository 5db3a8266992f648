# SPDX-License-Identifier: Apache-2.0
"""service2: checks site two."""
from checker import make_app

app = make_app("/check-two", "site-two")
