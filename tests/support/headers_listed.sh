#!/bin/sh
# A header that no meson.build lists would be missing once installed. Arguments: the listed ones.
status=0
for header in traps/*.hpp io/*.hpp kernel/*.hpp; do
    case " $* " in
    *" $header "*) ;;
    *) echo "$header is not listed in ${header%/*}/meson.build"; status=1 ;;
    esac
done
exit $status
