#!/bin/sh
# Headless Chromium loads a page with thirty assets from the http example. Argument: its path.
set -eu
http_program=$1
browser=
for name in chromium chromium-browser google-chrome; do
    command -v $name >/dev/null && browser=$name && break
done
[ -n "$browser" ] || { echo "there is no chromium here"; exit 77; }

. "$(dirname "$0")/peers.sh"

# The page counts what was loaded: ten scripts, ten styles, ten images of 1, 4, 9, ... pixels.
mkdir -p "$work/www/assets" "$work/profile"
{
    echo '<!doctype html><meta charset=utf-8><title>assets</title><script>let scripts = 0</script>'
    for i in 0 1 2 3 4 5 6 7 8 9; do
        echo "<link rel=stylesheet href=/assets/$i.css><script src=assets/$i.js></script>"
        echo "<img id=i$i src='assets/$i%20image.svg'><p id=p$i>"
        echo "scripts += 1" >"$work/www/assets/$i.js"
        { echo "#p$i { width: 1${i}px }"; head -c 30000 /dev/zero | tr '\0' ' '; } \
            >"$work/www/assets/$i.css"
        size=$((i + 1))
        echo "<svg xmlns='http://www.w3.org/2000/svg' width='$size' height='$size'/>" \
            >"$work/www/assets/$i image.svg"
    done
    cat <<'END'
<p id=result>nothing</p>
<script>
onload = () => {
    let styles = 0, images = 0;
    for (let i = 0; i < 10; ++i) {
        styles += getComputedStyle(document.getElementById('p' + i)).width == '1' + i + 'px';
        images += document.getElementById('i' + i).naturalWidth == i + 1;
    }
    document.getElementById('result').textContent =
        'loaded: ' + [scripts, styles, images].join(' ');
}
</script>
END
} >"$work/www/index.html"

start_server "$http_program" 127.0.0.1:0 "$work/www"
url=${line%%/, *}

timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync \
    --disable-dev-shm-usage \
    --no-proxy-server --user-data-dir="$work/profile" --virtual-time-budget=20000 \
    --dump-dom "$url/" >"$work/dom" 2>"$work/errors" || { cat "$work/errors"; exit 1; }
grep -q '<p id="result">loaded: 10 10 10</p>' "$work/dom" || {
    cat "$work/dom" "$work/errors"
    exit 1
}
kill -TERM "$server"
wait "$server"
server=
