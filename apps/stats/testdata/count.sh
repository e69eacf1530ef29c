#!/bin/sh
# Counts the page views of a log in the combined format from the words of
# docs/guide/statistics.md, with nothing of the program but its table of agents:
#
#   sh count.sh AGENTS.TXT < access.log
#
# Times are taken to be in UTC. It prints "views N", "visitors N", "day DAY N",
# "path N PATH" and "left N REASON".
set -eu
export LC_ALL=C
awk -v agents="$1" '
function lowered(s) { return tolower(s) }
function feed(path, query,   parts, n, last) {
	path = lowered(path)
	sub(/\/+$/, "", path)
	n = split(path, parts, "/")
	last = parts[n]
	if (last ~ /\.(rss|atom|rdf)$/) return 1
	if (last ~ /^(feed|feeds|rss|atom|rss-full|rss2)(\.(xml|json|php))?$/) return 1
	return ("&" lowered(query)) ~ /&(feed|flav|format|output|type|alt)=(rss|atom|feed|rdf)/
}
function robot(agent,   i) {
	agent = lowered(substr(agent, 1, 1024))
	for (i = 1; i <= words; i++) if (index(agent, word[i])) return 1
	return 0
}
# The seconds since 1970 of 17/May/2015:10:05:03.
function seconds(stamp,   d, m, y, era, yoe, doy) {
	d = substr(stamp, 1, 2) + 0
	m = (index("JanFebMarAprMayJunJulAugSepOctNovDec", substr(stamp, 4, 3)) + 2) / 3
	y = substr(stamp, 8, 4) + 0
	if (m <= 2) y--
	era = int(y / 400); yoe = y - era * 400
	doy = int((153 * (m + (m > 2 ? -3 : 9)) + 2) / 5) + d - 1
	return (era * 146097 + yoe * 365 + int(yoe / 4) - int(yoe / 100) + doy - 719468) * 86400 \
		+ substr(stamp, 13, 2) * 3600 + substr(stamp, 16, 2) * 60 + substr(stamp, 19, 2)
}
BEGIN {
	while ((getline line < agents) > 0) {
		n = split(line, column, "|")
		gsub(/^ +| +$/, "", column[1]); gsub(/^ +| +$/, "", column[2])
		if (n == 3 && column[1] ~ /^(ai|bot|library|headless)$/) word[++words] = lowered(column[2])
	}
	n = split("css js mjs cjs map wasm json jsonld xml xsl xslt txt webmanifest ico png jpg jpeg jpe gif svg svgz webp avif " \
		"apng bmp tif tiff cur woff woff2 ttf otf eot mp3 m4a aac ogg oga opus wav flac mp4 m4v webm ogv mov avi mkv swf " \
		"pdf ps eps doc docx xls xlsx ppt pptx odt ods odp epub csv zip gz tgz bz2 tbz xz txz zst 7z rar tar jar war deb " \
		"rpm apk dmg pkg iso img exe msi bin", list, " ")
	for (i = 1; i <= n; i++) asset[list[i]] = 1
	months = "JanFebMarAprMayJunJulAugSepOctNovDec"
}
{
	n = split($0, part, "\"")
	if (n != 7) { print "bad"; next }
	split(part[3], answer, " ")
	k = split(part[2], request, " ")
	if (request[1] != "GET") { print "method"; next }
	if (answer[1] !~ /^(200|203|304)$/) { print "status"; next }
	target = request[2]
	sub(/#.*/, "", target)
	query = ""
	if (i = index(target, "?")) { query = substr(target, i + 1); target = substr(target, 1, i - 1) }
	if (target !~ /^\//) { print "bad"; next }
	if (feed(target, query)) { print "feed"; next }
	file = target; sub(/.*\//, "", file)
	if (match(file, /\.[^.]*$/) && asset[lowered(substr(file, RSTART + 1))]) { print "asset"; next }
	if (part[6] == "-") { print "noagent"; next }
	if (robot(part[6])) { print "robot"; next }
	stamp = substr(part[1], index(part[1], "[") + 1, 20)
	address = part[1]; sub(/ .*/, "", address)
	day = sprintf("%s-%02d-%s", substr(stamp, 8, 4), (index(months, substr(stamp, 4, 3)) + 2) / 3, substr(stamp, 1, 2))
	print "view\t" seconds(stamp) "\t" NR "\t" day "\t" target "\t" day " " address " " part[6]
}' | sort -t "$(printf '\t')" -k2,2n -k3,3n | awk -F '\t' '
$1 != "view" { left[$1]++; next }
{
	key = $6 "\t" $5
	if (key in last && $2 - last[key] < 1800) { left["repeated"]++; next }
	last[key] = $2
	views++; days[$4]++; paths[$5]++
	if (!($6 in seen)) { seen[$6] = 1; visitors++ }
}
END {
	print "views", views + 0
	print "visitors", visitors + 0
	for (day in days) print "day", day, days[day]
	for (path in paths) print "path", paths[path], path
	for (reason in left) print "left", left[reason], reason
}'
