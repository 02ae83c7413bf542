"""Where fictitious authors come from: names, cities and languages of 30 cultures.

Given names and surnames are common ones, combined at random; a match with a real person is chance.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Culture:
    """Names and places that go together."""

    country: str
    language: str
    cities: tuple[str, ...]
    female: tuple[str, ...]
    male: tuple[str, ...]
    surnames: tuple[str, ...]
    female_surnames: tuple[str, ...]
    """In the order of ``surnames``; the same where a surname has one form."""
    is_family_first: bool
    is_known_by_given: bool
    """Whether a second mention uses the given name (Iceland, Vietnam) and not the surname."""


def _culture(
    country: str,
    language: str,
    cities: str,
    names: str,
    surnames: str,
    style: str = "",
) -> Culture:
    """Read space-separated lists (cities by comma; ``/`` parts female from male names).

    A surname ``A|B`` has the male form A and the female form B; ``_`` stands for a space inside a
    name. ``style`` may hold the words ``family-first`` and ``by-given``.
    """
    female, male = (_words(part) for part in names.split("/"))
    forms = [surname.partition("|")[::2] for surname in _words(surnames)]
    return Culture(
        country,
        language,
        tuple(cities.split(", ")),
        female,
        male,
        tuple(form for form, _ in forms),
        tuple(other or form for form, other in forms),
        "family-first" in style,
        "by-given" in style,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


CULTURES: tuple[Culture, ...] = (
    _culture(
        "Nigeria",
        "Igbo",
        "Enugu, Onitsha, Owerri",
        "Adaeze Chiamaka Ifeoma Nkechi Ogechi Uzoma/Chidi Emeka Ikenna Kelechi Obinna Uche",
        "Anyaegbu Ekwueme Ezeani Mbakwe Nwosu Obiora Okonjo Onwudiwe Umeh Uzodinma",
    ),
    _culture(
        "Nigeria",
        "Yoruba",
        "Ibadan, Abeokuta, Lagos",
        "Abọ́sẹ̀dé Folákẹ́ Morẹ́nikẹ́ Títílayọ̀ Yétúndé Bísí/Adébáyọ̀ Akin Fẹ́mi Káyọ̀dé Olúmidé Túndé",
        "Adéyẹmí Àjàyí Akíntọ́lá Bámgbóṣé Fálọlá Ògúnlẹ́yẹ Olátúnjí Ọláníyan Ṣówándé Òjó",
    ),
    _culture(
        "Iceland",
        "Icelandic",
        "Reykjavík, Akureyri, Ísafjörður",
        "Ásdís Guðrún Hrafnhildur Katrín Sólveig Þórunn"
        "/Árni Bjarki Einar Hallgrímur Sigurður Þorsteinn",
        "Arnarson|Arnardóttir Björnsson|Björnsdóttir Egilsson|Egilsdóttir Grímsson|Grímsdóttir "
        "Helgason|Helgadóttir Ketilsson|Ketilsdóttir Oddsson|Oddsdóttir Snorrason|Snorradóttir",
        "by-given",
    ),
    _culture(
        "Vietnam",
        "Vietnamese",
        "Huế, Hải Phòng, Cần Thơ",
        "Bích_Ngọc Hồng_Nhung Lan_Anh Mai_Phương Thanh_Hà Thu_Trang/Anh_Tuấn Đức_Minh Hữu_Phước "
        "Quang_Huy Trung_Kiên Văn_Long",
        "Bùi Đặng Đỗ Hoàng Huỳnh Lê Ngô Nguyễn Phạm Trần Võ Vũ",
        "family-first by-given",
    ),
    _culture(
        "Japan",
        "Japanese",
        "Kanazawa, Sendai, Nagasaki",
        "Ayako Chihiro Haruka Kazumi Michiko Yukari/Daisuke Hiroaki Kenjirō Masato Shinji Yūtarō",
        "Asahina Fujisaki Hoshino Ikegami Kuramoto Matsuoka Ōtsuka Shimabukuro Tachibana Yanagida",
    ),
    _culture(
        "South Korea",
        "Korean",
        "Busan, Gwangju, Jeonju",
        "Eun-ji Hye-rin Ji-won Mi-kyung Seo-yeon Soo-ah"
        "/Dong-hyun Jae-sung Joon-ho Min-seok Sang-woo Tae-il",
        "Baek Cho Gong Han Jang Kwon Ma Noh Ryu Seo Yoo Yoon",
        "family-first",
    ),
    _culture(
        "China",
        "Mandarin",
        "Chengdu, Suzhou, Harbin",
        "Huìlán Jiāyí Lìhuá Měiqí Xuěqíng Yùwén/Bóyuǎn Guóqiáng Jiànjūn Tiānyòu Wěimíng Zhìháo",
        "Chén Dèng Féng Gāo Hú Jiǎng Lín Luó Shěn Táng Xuē Zhōu",
        "family-first",
    ),
    _culture(
        "India",
        "Tamil",
        "Madurai, Chennai, Coimbatore",
        "Anjali Kavitha Meenakshi Nandhini Revathi Yamuna"
        "/Arivazhagan Dinesh Karthik Murugan Senthil Velan",
        "Annamalai Chidambaram Elango Ilangovan Kandasamy "
        "Natarajan Palaniappan Ramalingam Sivakumar",
    ),
    _culture(
        "Bangladesh",
        "Bengali",
        "Dhaka, Chattogram, Sylhet",
        "Afsana Farzana Ishrat Nasreen Rumana Tahmina/Anisur Kamrul Mahfuz Rafiq Shahed Tanvir",
        "Ahmed Bhuiyan Chowdhury Haque Islam Khondaker Majumdar Sarkar Siddique Talukder",
    ),
    _culture(
        "Iran",
        "Persian",
        "Shiraz, Isfahan, Tabriz",
        "Azadeh Golnar Laleh Mahnaz Parisa Shirin/Ardeshir Behrouz Dariush Kamran Navid Siavash",
        "Bahrami Esfandiari Farrokhi Golestani Jahanbani "
        "Kiarostamian Moradi Rostami Tavakoli Zarei",
    ),
    _culture(
        "Turkey",
        "Turkish",
        "İzmir, Bursa, Trabzon",
        "Ayşegül Çiğdem Elif Gülşen Müge Şebnem/Barış Çağlar Hüseyin Kerem Oğuz Tuğrul",
        "Akçay Bozdağ Çelikkol Demirtaş Erdoğmuş Güneş Karabulut Özçelik Şimşek Yıldırım",
    ),
    _culture(
        "Egypt",
        "Arabic",
        "Alexandria, Cairo, Luxor",
        "Dalia Hala Mervat Nadia Rania Yasmine/Amr Hossam Karim Mostafa Sherif Tarek",
        "Abdelrahman El-Badry El-Gohary El-Masry Farouk Habib Mansour Naguib Shaheen Zaki",
    ),
    _culture(
        "Ethiopia",
        "Amharic",
        "Addis Ababa, Gondar, Bahir Dar",
        "Almaz Bethlehem Hiwot Mekdes Selamawit Tsehay/Abebe Dawit Getachew Mulugeta Tesfaye Yonas",
        "Alemu Bekele Demissie Gebremariam Haile Kebede Lemma Negash Tadesse Wolde",
        "by-given",
    ),
    _culture(
        "Kenya",
        "Swahili",
        "Mombasa, Nairobi, Kisumu",
        "Akinyi Atieno Makena Njeri Wambui Zawadi/Baraka Juma Kamau Mwangi Omondi Otieno",
        "Gitonga Kariuki Kiprono Mutua Mwakio Ndung'u Ochieng Odhiambo Wafula Wanyama",
    ),
    _culture(
        "Ghana",
        "Twi",
        "Kumasi, Cape Coast, Accra",
        "Abena Adwoa Akosua Efua Esi Yaa/Kofi Kojo Kwabena Kwame Kwasi Yaw",
        "Acheampong Adomako Agyeman Amponsah Boateng Danquah Frimpong Oduro Opoku Sarpong",
    ),
    _culture(
        "Senegal",
        "Wolof",
        "Saint-Louis, Dakar, Thiès",
        "Aïssatou Coumba Fatou Khady Mariama Ndèye"
        "/Abdoulaye Babacar Cheikh Mamadou Ousmane Serigne",
        "Badji Diagne Diop Faye Gueye Mbaye Ndiaye Sarr Seck Thiam",
    ),
    _culture(
        "Poland",
        "Polish",
        "Łódź, Gdańsk, Kraków",
        "Agnieszka Bożena Grażyna Jadwiga Małgorzata Zofia"
        "/Bogusław Kazimierz Łukasz Mieczysław Paweł Zbigniew",
        "Gołąb Jóźwiak Kołodziej Król Mazur Pająk Sikora Świątek Wójcik Zając",
    ),
    _culture(
        "Czechia",
        "Czech",
        "Brno, Olomouc, Plzeň",
        "Alžběta Blanka Jiřina Kateřina Růžena Zdeňka"
        "/Bohumil Jaroslav Ondřej Přemysl Vojtěch Zdeněk",
        "Beneš|Benešová Doležal|Doležalová Hájek|Hájková Kříž|Křížová Machač|Machačová "
        "Pokorný|Pokorná Šimek|Šimková Vaněk|Vaňková Zeman|Zemanová Žák|Žáková",
    ),
    _culture(
        "Hungary",
        "Hungarian",
        "Szeged, Pécs, Debrecen",
        "Boglárka Enikő Erzsébet Ildikó Réka Zsófia/András Csaba Gergő László Sándor Zoltán",
        "Balogh Erdős Fekete Gulyás Halász Kövér Pásztor Szűcs Takács Vörös",
    ),
    _culture(
        "Finland",
        "Finnish",
        "Turku, Oulu, Tampere",
        "Aino Eila Hilkka Päivi Sinikka Tuulikki/Antti Eero Jyrki Kyösti Pentti Väinö",
        "Hämäläinen Järvi Kettunen Lehtonen Mäkelä Nurmi Peltola Ristimäki Särkkä Väisänen",
    ),
    _culture(
        "Norway",
        "Norwegian",
        "Bergen, Tromsø, Ålesund",
        "Åshild Bjørg Guro Ingeborg Ragnhild Solfrid/Asbjørn Eirik Håkon Kjetil Sondre Øyvind",
        "Aasen Bråten Fjeld Haugen Kvåle Løvås Myhre Sæther Skjærvø Ødegård",
    ),
    _culture(
        "Portugal",
        "Portuguese",
        "Coimbra, Porto, Évora",
        "Beatriz Conceição Filipa Graça Inês Mafalda/Álvaro Baltasar Duarte Gonçalo João Simão",
        "Abrantes Brandão Falcão Magalhães Negrão Palhares Quintão Simões Vilhena Zarco",
    ),
    _culture(
        "Brazil",
        "Portuguese",
        "Recife, Belém, Curitiba",
        "Araci Cecília Iracema Jandira Luzia Tainá/Anísio Cauã Heitor Otávio Thiago Ubiratã",
        "Assunção Cavalcante Drummond Figueiredo Guimarães Leão Meireles Nóbrega Sertão Trindade",
    ),
    _culture(
        "Mexico",
        "Spanish",
        "Oaxaca, Mérida, Guadalajara",
        "Ángela Citlali Guadalupe Itzel Rocío Xóchitl"
        "/Arnulfo Cuauhtémoc Efraín Jerónimo Néstor Óscar",
        "Arreguín Bolaños Cárdenas Escamilla Ibáñez Monsiváis Quiroz Tepeyac Urzúa Zúñiga",
    ),
    _culture(
        "Peru",
        "Quechua",
        "Cusco, Ayacucho, Puno",
        "Illari Killa Nayra Sami Urpi Yma/Amaru Inti Kusi Rumi Túpac Wayra",
        "Ccori Choque Condori Huamán Illanes Mamani Ñahui Quispe Sullca Yupanqui",
    ),
    _culture(
        "Greece",
        "Greek",
        "Thessaloniki, Patras, Heraklion",
        "Anthoula Dimitra Eleni Kalliope Vasiliki Zoe"
        "/Achilleas Fotis Ilias Kostas Stavros Thanasis",
        "Andreadis|Andreadi Galanis|Galani Karras|Karra Mavridis|Mavridi Petridis|Petridi "
        "Samaras|Samara Spanos|Spanou Vlachos|Vlachou Xenos|Xenou Zachos|Zachou",
    ),
    _culture(
        "Ireland",
        "Irish",
        "Galway, Cork, Sligo",
        "Aoife Caoimhe Fionnuala Gráinne Niamh Síle/Cathal Diarmuid Fiachra Oisín Pádraig Tadhg",
        "Brosnan Cassidy Devane Fallon Gilhooly Kinsella Lonergan Mulcahy Rafferty Tierney",
    ),
    _culture(
        "Estonia",
        "Estonian",
        "Tartu, Pärnu, Viljandi",
        "Õnne Kadri Leelo Maarja Ülle Virve/Jüri Kaarel Mihkel Priit Tõnis Ülo",
        "Jõesaar Kask Kõiv Lepik Mägi Pärn Rätsep Saar Tamm Võsu",
    ),
    _culture(
        "Georgia",
        "Georgian",
        "Tbilisi, Kutaisi, Batumi",
        "Ketevan Lela Manana Nino Tamar Tsiala/Davit Giorgi Irakli Levan Shota Zurab",
        "Abashidze Chkheidze Gelashvili Japaridze Kobakhidze Lomidze Maisuradze Tsereteli",
    ),
    _culture(
        "New Zealand",
        "Māori",
        "Rotorua, Whanganui, Gisborne",
        "Anahera Hinemoa Kahurangi Mereana Ngaire Whetū/Hēmi Matiu Nikau Rāwiri Tāne Wiremu",
        "Hākaraia Kīngi Māhina Parāone Pōtiki Rangihuna Tāmati Te_Awa Waititi Wharepapa",
    ),
)

CITIES: tuple[tuple[str, str], ...] = tuple(
    (city, culture.country) for culture in CULTURES for city in culture.cities
)
"""Every city with its country."""

_FOREIGN = "Basque Catalan Dutch German Hebrew Italian Latin Malay Romanian Russian Welsh"
LANGUAGES: tuple[str, ...] = tuple(
    dict.fromkeys([*(culture.language for culture in CULTURES), *_FOREIGN.split()])
)
"""Languages an author may have learnt."""
