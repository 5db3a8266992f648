// SPDX-License-Identifier: Apache-2.0
// A virtual thread per request, which makes its calls itself: awaited one after the other, over new and kept connections.
import com.sun.net.httpserver.HttpServer;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.util.concurrent.Executors;

public class VirtualThreads {
	static void ask(String rid, String leg, int timeout) throws Exception {
		var url = URI.create(System.getenv("LEAF") + "/r/" + rid + "/" + leg).toURL();
		var c = (HttpURLConnection) url.openConnection();
		c.setReadTimeout(timeout);
		if (System.getenv("CLOSE") != null) {
			c.setRequestProperty("Connection", "close");
		}
		try (var in = c.getInputStream()) {
			in.readAllBytes();
		}
	}

	static void get(String rid, String leg) throws Exception {
		var timeout = System.getenv("TIMEOUT");
		try {
			ask(rid, leg, timeout == null ? 0 : (int) (1000 * Double.parseDouble(timeout)));
		} catch (SocketTimeoutException e) {
			ask(rid, leg, 0);
		}
	}

	// In another virtual thread: who started it is not published.
	static void elsewhere(String rid, String leg) throws Exception {
		try (var executor = Executors.newVirtualThreadPerTaskExecutor()) {
			executor.submit(() -> { get(rid, leg); return null; }).get();
		}
	}

	public static void main(String[] args) throws Exception {
		var platform = "platform".equals(System.getenv("MODE"));
		var server = HttpServer.create(
			new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 4096);
		server.setExecutor(platform ? Executors.newFixedThreadPool(64) : Executors.newVirtualThreadPerTaskExecutor());
		server.createContext("/", e -> {
			var rid = e.getRequestURI().getPath().split("/")[2];
			try {
				get(rid, "n1a");
				get(rid, "n1b");
				elsewhere(rid, "n1c");
				e.sendResponseHeaders(200, -1);
			} catch (Exception x) {
				e.sendResponseHeaders(500, -1);
			}
			e.close();
		});
		server.start();
	}
}
