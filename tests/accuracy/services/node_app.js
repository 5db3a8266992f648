// SPDX-License-Identifier: Apache-2.0
// Node.js, its own server and clients: awaited, at once, by fetch (undici), after a body, after a file, by name.
// MODE: what stands between a request and its calls. With CERT over HTTPS, both ways.
"use strict";
const dns = require("dns");
const fs = require("fs");
const http = require("http");
const https = require("https");
const { setTimeout: sleep } = require("timers/promises");

const LEAF = process.env.LEAF;
const FILE = process.env.FILE; // takes longer than most calls
const POOL = Number(process.env.POOL || Infinity);
const MODE = process.env.MODE || "";
const TIMEOUT = 1000 * Number(process.env.TIMEOUT || 60);
const { CERT, KEY } = process.env;
const web = CERT ? https : http;
const agent = new web.Agent({ keepAlive: !process.env.CLOSE, maxSockets: POOL });

function ask(rid, leg, options) {
	return new Promise((resolve, reject) => {
		web.get(`${LEAF}/r/${rid}/${leg}`, { agent, ...options }, (res) => {
			res.resume();
			res.on("end", resolve);
		}).on("error", reject);
	});
}

// Whatever does not come in time is asked for again, without a limit.
async function get(rid, leg, options = {}) {
	try {
		await ask(rid, leg, { signal: AbortSignal.timeout(TIMEOUT), ...options });
	} catch (e) {
		await ask(rid, leg, options);
	}
}

// A limit on concurrent work, as p-limit and its like keep one: who is done starts what waits.
function limiter(n) {
	const queue = [];
	let running = 0;
	const next = () => {
		if (running < n && queue.length) {
			running++;
			queue.shift()();
		}
	};
	return async (work) => {
		await new Promise((resolve) => {
			queue.push(resolve);
			next();
		});
		try {
			return await work();
		} finally {
			running--;
			next();
		}
	};
}
const limit = limiter(8);

async function askByFetch(rid, leg, options) {
	const r = await fetch(`${LEAF}/r/${rid}/${leg}`, options);
	await r.text();
}

async function viaFetch(rid, leg) {
	try {
		await askByFetch(rid, leg, { signal: AbortSignal.timeout(TIMEOUT) });
	} catch (e) {
		await askByFetch(rid, leg);
	}
}

const modes = {
	async ""(rid) {
		await get(rid, "n1a");
		await Promise.all([get(rid, "n1b"), get(rid, "n1c")]);
		await viaFetch(rid, "n1d");
		await get(rid, "n1e");
	},
	// What comes back from the thread pool: a file, a name.
	async pool(rid) {
		await fs.promises.readFile(__filename);
		await get(rid, "n1a");
		await dns.promises.lookup("localhost", 4);
		await get(rid, "n1b", { agent: false });
	},
	async timer(rid) {
		await get(rid, "n1a");
		await sleep(2);
		await get(rid, "n1b");
	},
	async immediate(rid) {
		await new Promise(setImmediate);
		await get(rid, "n1a");
	},
	async limit(rid) {
		await Promise.all(["n1a", "n1b", "n1c"].map((leg) => limit(() => get(rid, leg))));
	},
	// The last thing that a request waits for is invisible: its answer hides whose turn it was.
	async hidden(rid) {
		await limit(() => get(rid, "n1a"));
		await get(rid, "n1b");
		await sleep(1);
	},
	// A limit beside what the thread pool does, which mostly takes longer: its end hides whose turns the limit used.
	async beside(rid) {
		await Promise.all([limit(() => ask(rid, "n1a")), fs.promises.readFile(FILE)]);
	},
	// The same, begun in the turn of another call.
	async behind(rid) {
		await limit(() => get(rid, "n1a"));
		await Promise.all([fs.promises.readFile(FILE), limit(() => ask(rid, "n1b"))]);
	},
	// Two kinds of handlers with a limit in common.
	async kinds(rid) {
		if (rid.charCodeAt(rid.length - 1) % 2)
			return Promise.all([limit(() => get(rid, "n1a")), get(rid, "n1b")]);
		await limit(() => get(rid, "n1a"));
		return get(rid, "n1b");
	},
	// Answered at once, and goes on.
	late(rid) {
		setTimeout(() => get(rid, "n1b"), 20);
		return get(rid, "n1a");
	},
};

const own = CERT ? { cert: fs.readFileSync(CERT), key: fs.readFileSync(KEY) } : {};
web.createServer({ keepAliveTimeout: 600_000, ...own }, async (req, res) => {
	const rid = req.url.split("/")[2];
	req.resume();
	try {
		await modes[MODE](rid);
		res.end(rid);
	} catch (e) {
		res.statusCode = 500;
		res.end(String(e));
	}
}).listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
