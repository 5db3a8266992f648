// SPDX-License-Identifier: Apache-2.0
// An HTTPS server by Java's own library (JSSE): STORE is its PKCS#12 file.
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

public class Encrypted {
	public static void main(String[] args) throws Exception {
		char[] password = "wirespan".toCharArray();
		KeyStore store = KeyStore.getInstance("PKCS12");
		try (FileInputStream in = new FileInputStream(System.getenv("STORE"))) {
			store.load(in, password);
		}
		KeyManagerFactory keys = KeyManagerFactory.getInstance("SunX509");
		keys.init(store, password);
		SSLContext context = SSLContext.getInstance("TLS");
		context.init(keys.getKeyManagers(), null, null);
		HttpsServer server = HttpsServer.create(
			new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
		server.setHttpsConfigurator(new HttpsConfigurator(context));
		server.createContext("/", exchange -> {
			exchange.sendResponseHeaders(200, 2);
			exchange.getResponseBody().write("ok".getBytes());
			exchange.close();
		});
		server.start();
	}
}
