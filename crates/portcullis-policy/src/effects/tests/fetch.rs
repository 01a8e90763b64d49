//! `curl` and `wget`, and the programs whose words are not told apart.

use super::{check_all, words};
use crate::effects::{effects, table};

#[test]
fn addresses_are_reached() {
    check_all(&[
        ("curl https://api.example.com/x", "network https://api.example.com:443"),
        ("curl -sS https://api.example.com", "network https://api.example.com:443"),
        ("curl HTTPS://API.example.com:443/x?y=1", "network https://api.example.com:443"),
        (
            "curl -s --max-time 5 --retry 2 -A me https://api.example.com/x",
            "network https://api.example.com:443",
        ),
        ("curl -I https://api.example.com/x", "network https://api.example.com:443"),
        ("curl -X GET https://api.example.com/x", "network https://api.example.com:443"),
        ("curl --request HEAD https://api.example.com/x", "network https://api.example.com:443"),
        ("curl -G -d q=x https://api.example.com/x", "network https://api.example.com:443"),
        ("curl -G --data-urlencode 'q=a b' https://api.example.com/x", "network https://api.example.com:443"),
        ("curl -H 'Accept: text/plain' https://api.example.com", "network https://api.example.com:443"),
        ("curl -o out https://api.example.com/x", "write out; network https://api.example.com:443"),
        ("curl -o - https://api.example.com/x", "network https://api.example.com:443"),
        (
            "curl -sSo/dev/null -w '%{http_code}' https://api.example.com/x",
            "write /dev/null; network https://api.example.com:443",
        ),
        (
            "curl -O https://files.example.com/d/a.txt",
            "network https://files.example.com:443; write . or in it; write ./a.txt",
        ),
        (
            "curl --output-dir dl -O https://files.example.com/a",
            "write dl or in it; network https://files.example.com:443; write dl or in it; write dl/a",
        ),
        (
            "curl -O https://files.example.com/.git",
            "network https://files.example.com:443; write . or in it; write ./.git",
        ),
        ("curl http://api.example.com/", "network http://api.example.com:80"),
        ("curl api.example.com", "network http://api.example.com:80"),
        ("curl https://api.example.com:8443/", "network https://api.example.com:8443"),
        ("curl https://api.example.com.evil.com/", "network https://api.example.com.evil.com:443"),
        (
            "curl --url https://evil.com https://api.example.com",
            "network https://evil.com:443; network https://api.example.com:443",
        ),
        (
            "curl https://api.example.com --next https://evil.com",
            "network https://api.example.com:443; network https://evil.com:443",
        ),
        ("curl --version", ""),
        (
            "wget https://files.example.com/a.txt",
            "network https://files.example.com:443; write . or in it; write ./a.txt",
        ),
        ("wget -q -O - https://files.example.com/a.txt", "network https://files.example.com:443"),
        ("wget -qO out https://files.example.com/a.txt", "write out; network https://files.example.com:443"),
        (
            "wget -nv -P dl https://files.example.com/a",
            "write dl or in it; network https://files.example.com:443; write dl or in it; write dl/a",
        ),
        ("wget --spider https://files.example.com/", "network https://files.example.com:443"),
    ]);
}

#[test]
fn what_cannot_be_bounded_says_so() {
    for line in [
        "curl https://api.example.com@evil.com/",
        "curl 'https://{api,evil}.example.com/'",
        "curl 'https://api.example.com\\@evil.com/'",
        "curl https://[::1]/",
        "curl 'https://api.exämple.com/'",
        "curl https://api.example.com*",
        "curl https://api.example.com?x=1",
        "curl 'https://api.example.com:443:80/'",
        "curl -x http://evil https://api.example.com",
        "curl --proxy evil https://api.example.com",
        "curl --preproxy evil https://api.example.com",
        "curl --socks5 evil https://api.example.com",
        "curl --resolve api.example.com:443:1.2.3.4 https://api.example.com",
        "curl --connect-to ::evil: https://api.example.com",
        "curl --doh-url https://evil https://api.example.com",
        "curl --unix-socket /x https://api.example.com",
        "curl -L https://api.example.com",
        "curl -sSL https://api.example.com",
        "curl -k https://api.example.com",
        "curl --insec https://api.example.com",
        "curl -d x https://api.example.com",
        "curl --data-raw x https://api.example.com",
        "curl --json x https://api.example.com",
        "curl -F a=b https://api.example.com",
        "curl -T f https://api.example.com",
        "curl -X POST https://api.example.com",
        "curl -XDELETE https://api.example.com",
        "curl -G -d q=x https://api.example.com --next -d x https://api.example.com",
        "curl -H 'Host: evil' https://api.example.com",
        "curl -K conf https://api.example.com",
        "curl -n https://api.example.com",
        "curl --cacert f https://api.example.com",
        "curl -Q cmd https://api.example.com",
        "wget -i list",
        "wget -r https://files.example.com",
        "wget -m https://files.example.com",
        "wget -e https_proxy=evil https://files.example.com",
        "wget --config=f https://files.example.com",
        "wget --no-check-certificate https://files.example.com",
        "wget --no-check-cert https://files.example.com",
        "wget --post-data=x https://files.example.com",
        "wget --post-file=f https://files.example.com",
        "wget --body-file=f https://files.example.com",
        "wget --method=POST https://files.example.com",
        "wget --max-redirect=5 https://files.example.com",
        "wget -H https://files.example.com",
    ] {
        let words = words(line);
        let found = super::rendered(effects(words[0].as_literal().unwrap(), &words[1..]));
        assert!(found.contains("network unbounded"), "{line}: {found}");
    }
}

#[test]
fn files_that_options_name_are_read_and_written() {
    check_all(&[
        ("curl file:///etc/passwd", "read /etc/passwd and below; network unbounded"),
        ("curl FILE:///etc/passwd", "read /etc/passwd and below; network unbounded"),
        ("curl -d @/etc/passwd https://h/", "read /etc/passwd; network unbounded; network https://h:443"),
        (
            "curl --data-urlencode a@/etc/passwd https://h/",
            "read /etc/passwd; network unbounded; network https://h:443",
        ),
        ("curl -G -d @/etc/passwd https://h/", "read /etc/passwd; network unbounded; network https://h:443"),
        (
            "curl -F 'a=@/etc/passwd;type=x' https://h/",
            "read /etc/passwd; network unbounded; network https://h:443",
        ),
        ("curl -H @/etc/passwd https://h/", "read /etc/passwd; network unbounded; network https://h:443"),
        ("curl -w @/etc/passwd https://h/", "read /etc/passwd; write unbounded; network https://h:443"),
        ("curl -w '%output{x}' https://h/", "write unbounded; network https://h:443"),
        ("curl -b /etc/passwd https://h/", "read /etc/passwd; network https://h:443"),
        ("curl -b a=b https://h/", "network https://h:443"),
        ("curl -c jar https://h/", "write jar; network https://h:443"),
        ("curl -D - https://h/", "network https://h:443"),
        ("curl -D headers https://h/", "write headers; network https://h:443"),
        ("curl --trace t https://h/", "write t; network https://h:443"),
        ("curl --trace-asc t https://h/", "write t; network https://h:443"),
        ("curl --stderr e https://h/", "write e; network https://h:443"),
        ("curl --hsts f https://h/", "read f; write f; network https://h:443"),
        ("curl --libcurl f https://h/", "write f; network https://h:443"),
        ("curl --etag-save f https://h/", "write f; network https://h:443"),
        ("curl -E cert --key key https://h/", "read cert; read key; network https://h:443"),
        ("curl --netrc-file f https://h/", "network unbounded; read f; network https://h:443"),
        ("curl --engine x https://h/", "execute unbounded; network https://h:443"),
        ("curl --outp x https://h/", "usage: `--outp` could be `--output` or `--output-dir`"),
        (
            "wget --use-askpass=sh https://h/",
            "execute program sh; network https://h:443; write . or in it; write ./index.html",
        ),
        ("wget --load-cookies /etc/x -O - https://h/", "read /etc/x; network https://h:443"),
        ("wget --save-cookies f -O - https://h/", "write f; network https://h:443"),
        ("wget --warc-file=w -O - https://h/", "write w*; network https://h:443"),
        ("wget -o log -a log2 -O - https://h/", "write log; write log2; network https://h:443"),
    ]);
}

#[test]
fn configuration_files_are_turned_off() {
    let insertions = |line: &str| {
        let words = words(line);
        effects(words[0].as_literal().unwrap(), &words[1..]).unwrap().insertions
    };
    assert_eq!(insertions("curl https://h/"), [(0, "-q".into())]);
    assert_eq!(insertions("curl -q https://h/"), []);
    let wget = insertions("wget https://h/");
    for text in ["--no-config", "--no-hsts", "--max-redirect=0"] {
        assert!(wget.contains(&(0, text.into())), "{text}");
    }
}

#[test]
fn programs_with_a_grammar_of_their_own_are_judged_by_what_they_can_do() {
    check_all(&[
        ("ssh h id", "network unbounded; execute unbounded; write unbounded"),
        ("vim f", "execute unbounded; write unbounded"),
        ("less f", "execute unbounded; write unbounded"),
        ("perl -e 1", "execute unbounded; write unbounded"),
        ("sudo ls", "privilege unbounded; execute unbounded"),
        ("docker ps", "privilege unbounded; execute unbounded; network unbounded"),
        ("npx x", "execute unbounded; network unbounded"),
        ("openssl s_client", "network unbounded; execute unbounded; write unbounded"),
        ("busybox ls", "execute unbounded"),
    ]);
}

/// Every program whose risks were gathered has an entry.
#[test]
fn no_known_program_is_unknown() {
    const PROGRAMS: &str = "ls cat echo pwd printf head tail tac nl cut paste join comm fold fmt rev column od strings \
        wc du sort uniq shuf split csplit tee dd date stat test basename dirname realpath readlink base64 sha256sum cp mv \
        ln install rm rmdir truncate touch mkdir chmod chown find xargs grep rg sed awk gawk perl jq diff cmp xxd hexdump \
        file tree less more man vim nano ed git tar gzip bzip2 xz zcat zip unzip cpio curl wget ssh scp rsync nc socat \
        openssl python3 node npm npx make cargo go gcc pip sqlite3 docker env timeout nice nohup stdbuf time watch setarch \
        strace script busybox chroot flock ionice setsid sudo unshare seq true false uname id whoami tr df gunzip";
    let known: Vec<_> = crate::effects::programs().collect();
    for program in PROGRAMS.split_whitespace() {
        assert!(known.contains(&program), "{program}");
    }
    assert!(table::names().count() > 150);
}
