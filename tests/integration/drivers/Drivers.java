// JDBC behind HikariCP, both as they are: statements are prepared on the server from the fifth execution on.
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Drivers {
    static Void client(HikariDataSource pool, int i) throws Exception {
        try (Connection connection = pool.getConnection()) {
            try (PreparedStatement set = connection.prepareStatement("SELECT set_config('app.tenant', ?, false)")) {
                set.setString(1, "tenant " + i);
                set.execute();
            }
            try (PreparedStatement ask = connection.prepareStatement("SELECT ?::int + 1, current_setting('app.tenant')")) {
                for (int round = 0; round < 25; round++) {
                    ask.setInt(1, 100 * i + round);
                    try (ResultSet row = ask.executeQuery()) {
                        row.next();
                        if (row.getInt(1) != 100 * i + round + 1 || !row.getString(2).equals("tenant " + i)) {
                            throw new IllegalStateException("client " + i + " got " + row.getString(2));
                        }
                    }
                }
            }
        }
        return null;
    }

    public static void main(String[] arguments) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(arguments[0]);
        config.setMaximumPoolSize(4);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            ExecutorService threads = Executors.newFixedThreadPool(4);
            List<Future<Void>> all = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                int number = i;
                Callable<Void> work = () -> client(pool, number);
                all.add(threads.submit(work));
            }
            for (Future<Void> each : all) {
                each.get();
            }
            threads.shutdown();
        }
        System.out.println("ok");
    }
}
