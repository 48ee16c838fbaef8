show pools;
show clients;
show servers;
show stats_totals;
SET default_pool_size = 25;
SHOW CONFIG;
RELOAD;
DISABLE app_ro;
ENABLE app_ro;
